/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/bitmap_commands.h"

#include "vmm/base/cleanup.h"

static const char *text_arg(json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

/* While a machine is being built by another thread there is nothing to see yet. */
static struct disk_bitmaps *find_disk(struct app *app, const char *node, struct error **errp)
{
	bool built = __atomic_load_n(&app->machine.vm.built, __ATOMIC_ACQUIRE);
	struct disk_bitmaps_list none = TAILQ_HEAD_INITIALIZER(none);

	return disk_bitmaps_find(built ? &app->machine.vm.disks : &none, node, errp);
}

static json_t *done(bool ok)
{
	return ok ? json_object() : NULL;
}

json_t *cmd_bitmap_add(struct app *app, json_t *args, struct error **errp)
{
	struct disk_bitmaps *disk = find_disk(app, text_arg(args, "node"), errp);
	json_t *granularity = json_object_get(args, "granularity");
	const char *name = text_arg(args, "name");

	if (!disk)
		return NULL;
	if (json_is_true(json_object_get(args, "persistent"))) {
		error_set(errp,
			  "disk '%s': dirty bitmap '%s' cannot be persistent: a raw image has no "
			  "place for it",
			  disk->node, name);
		return NULL;
	}
	return done(disk_bitmap_add(disk, name,
				    granularity ? (uint64_t)json_integer_value(granularity)
						: DISK_BITMAP_GRANULARITY,
				    !json_is_true(json_object_get(args, "disabled")), errp));
}

json_t *cmd_bitmap_remove(struct app *app, json_t *args, struct error **errp)
{
	struct disk_bitmaps *disk = find_disk(app, text_arg(args, "node"), errp);

	return done(disk && disk_bitmap_remove(disk, text_arg(args, "name"), errp));
}

json_t *cmd_bitmap_clear(struct app *app, json_t *args, struct error **errp)
{
	struct disk_bitmaps *disk = find_disk(app, text_arg(args, "node"), errp);

	return done(disk && disk_bitmap_clear(disk, text_arg(args, "name"), errp));
}

json_t *cmd_bitmap_enable(struct app *app, json_t *args, struct error **errp)
{
	struct disk_bitmaps *disk = find_disk(app, text_arg(args, "node"), errp);

	return done(disk && disk_bitmap_enable(disk, text_arg(args, "name"), true, errp));
}

json_t *cmd_bitmap_disable(struct app *app, json_t *args, struct error **errp)
{
	struct disk_bitmaps *disk = find_disk(app, text_arg(args, "node"), errp);

	return done(disk && disk_bitmap_enable(disk, text_arg(args, "name"), false, errp));
}

/* A source is a name, of the target's disk, or {node, name}. */
static bool take_source(struct app *app, struct disk_bitmaps *target, json_t *item,
			struct disk_bitmap_ref *ref, struct error **errp)
{
	const char *node = text_arg(item, "node");

	ref->disk = target;
	ref->name = json_is_object(item) ? text_arg(item, "name") : json_string_value(item);
	if (!ref->name || (json_is_object(item) && (!node || json_object_size(item) != 2))) {
		error_set(errp,
			  "Parameter 'bitmaps' expects names, or objects of 'node' and 'name'");
		return false;
	}
	if (node)
		ref->disk = find_disk(app, node, errp);
	return ref->disk != NULL;
}

json_t *cmd_bitmap_merge(struct app *app, json_t *args, struct error **errp)
{
	struct disk_bitmap_ref target = { .disk = find_disk(app, text_arg(args, "node"), errp),
					  .name = text_arg(args, "target") };
	json_t *list = json_object_get(args, "bitmaps");
	scoped_free struct disk_bitmap_ref *sources =
		xcalloc(json_array_size(list), sizeof(*sources));
	bool ok = target.disk != NULL;

	for (size_t i = 0; ok && i < json_array_size(list); i++)
		ok = take_source(app, target.disk, json_array_get(list, i), &sources[i], errp);
	return done(ok &&
		    disk_bitmap_merge(&target, sources, (unsigned int)json_array_size(list), errp));
}
