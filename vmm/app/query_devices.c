/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/query_devices.h"

#include "devices/virtio/blk.h"

static json_t *bitmaps_json(struct disk_bitmaps *disk)
{
	struct disk_bitmap_info info;
	json_t *list = json_array();

	for (unsigned int i = 0; disk_bitmap_query(disk, i, &info); i++)
		json_array_append_new(
			list, json_pack("{s:s,s:I,s:I,s:b,s:b,s:b,s:b}", "name", info.name, "count",
					(json_int_t)info.dirty_bytes, "granularity",
					(json_int_t)info.granularity, "recording", info.enabled,
					"busy", info.busy, "persistent", 0, "inconsistent", 0));
	return list;
}

static json_t *describe_disk(struct device *dev)
{
	struct virtio_blk_info info;
	json_t *image, *cache, *inserted, *bitmaps;

	virtio_blk_query(dev, &info);
	image = json_pack("{s:s,s:s,s:I,s:b}", "filename", info.path, "format", "raw",
			  "virtual-size", (json_int_t)info.bytes, "dirty-flag", 0);
	cache = json_pack("{s:b,s:b,s:b}", "writeback", 1, "direct", 0, "no-flush", 0);
	inserted = json_pack("{s:s,s:s,s:b,s:s,s:b,s:s,s:I,s:I,s:o,s:o}", "file", info.path,
			     "node-name", info.id, "ro", info.read_only, "drv", "raw", "encrypted",
			     0, "detect_zeroes", "off", "backing_file_depth", (json_int_t)0,
			     "write_threshold", (json_int_t)0, "cache", cache, "image", image);
	/* There are no limits; clients expect to be told so. */
	for (unsigned int i = 0; i < 6; i++) {
		static const char *const limits[] = { "bps",  "bps_rd",	 "bps_wr",
						      "iops", "iops_rd", "iops_wr" };

		json_object_set_new(inserted, limits[i], json_integer(0));
	}
	bitmaps = bitmaps_json(info.bitmaps);
	if (json_array_size(bitmaps))
		json_object_set(inserted, "dirty-bitmaps", bitmaps);
	json_decref(bitmaps);
	/* Beside QEMU's: how it is read and written, and what is going on. */
	return json_pack("{s:s,s:s,s:s,s:b,s:b,s:s,s:o,s:s,s:I,s:I}", "device", info.id, "qdev",
			 info.id, "type", "unknown", "removable", 0, "locked", 0, "io-status", "ok",
			 "inserted", inserted, "aio", info.engine, "in-flight",
			 (json_int_t)info.in_flight, "io-errors", (json_int_t)info.errors);
}

json_t *query_block(struct app *app)
{
	struct vm *vm = &app->machine.vm;
	json_t *list = json_array();
	struct device *dev;

	if (!__atomic_load_n(&vm->built, __ATOMIC_ACQUIRE))
		return list;
	TAILQ_FOREACH (dev, &vm->devices, entry)
		if (dev->cls == &virtio_blk_class)
			json_array_append_new(list, describe_disk(dev));
	return list;
}

static json_t *describe_line(const char *label, const char *where, bool open)
{
	return json_pack("{s:s,s:s,s:b}", "label", label, "filename", where, "frontend-open", open);
}

json_t *query_chardev(struct app *app)
{
	bool built = __atomic_load_n(&app->machine.vm.built, __ATOMIC_ACQUIRE);
	json_t *list = json_array();

	json_array_append_new(list, describe_line("serial0", app->opts.serial, built));
	for (unsigned int i = 0; i < app->opts.devices.n; i++)
		if (app->consoles[i])
			json_array_append_new(list,
					      describe_line(app->opts.devices.list[i].id,
							    app->opts.devices.list[i].host, built));
	return list;
}
