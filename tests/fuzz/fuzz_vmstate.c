/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMState's walkers over a table with every kind, container and loop (gadget.c). What was loaded, saved and loaded again is the
 * same; a load that fails leaves every byte of the device as it was; cut off before the end of the fields, a good stream is an error.
 *
 * First byte: the version to load, from 1 to 3; second: how much of the stream that was saved is cut off.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/gadget.h"
#include "vmm/base/cleanup.h"

static bool load(struct gadget *g, const uint8_t *data, size_t size, uint32_t version,
		 struct error **errp)
{
	struct reader r;
	bool ok;

	reader_open(&r, data, size);
	ok = vmstate_load(r.in, &gadget_vmstate, g, version, errp);
	MUST(!ok || stream_in_ok(r.in));
	MUST(stream_in_position(r.in) <= size);
	reader_close(&r);
	return ok;
}

static uint8_t *save(struct gadget *g, size_t *len)
{
	json_t *json = json_object();
	struct writer w;
	const uint8_t *bytes;
	uint8_t *copy;

	writer_open(&w);
	MUST(vmstate_save(w.out, &gadget_vmstate, g, json, NULL));
	MUST(json_is_array(json_object_get(json, "fields")));
	json_decref(json);
	bytes = writer_bytes(&w, len);
	copy = malloc(*len + 1);
	MUST(copy);
	memcpy(copy, bytes, *len);
	writer_close(&w);
	return copy;
}

/* A failed load: the same bytes, the same pointers, the same behind them. */
static void load_in_vain(const uint8_t *data, size_t size, uint32_t version)
{
	struct gadget g, before;
	size_t len, len_before;
	scoped_free uint8_t *bytes = NULL, *bytes_before = NULL;
	struct error *err = NULL;

	gadget_make(&g);
	bytes_before = save(&g, &len_before);
	memcpy(&before, &g, sizeof(g));
	MUST(!load(&g, data, size, version, &err));
	MUST(strchr(".:[/(", *err->msg)); /* a path, then what is wrong */
	expect_outcome(false, err);
	/* What a temporary's post_load does to its parent is that hook's to undo, says vmstate.h; this one does not. */
	g.sum = before.sum;
	MUST(!memcmp(&g, &before, sizeof(g)));
	bytes = save(&g, &len);
	MUST(len == len_before && !memcmp(bytes, bytes_before, len));
	gadget_end(&g);
}

static void expect_stable(struct gadget *g, uint8_t cut)
{
	struct gadget again;
	size_t len, len_again;
	scoped_free uint8_t *bytes = save(g, &len), *bytes_again = NULL;
	size_t fields;

	gadget_make(&again);
	again.extra = again.more = 0; /* which a stream without the subsections leaves alone */
	MUST(load(&again, bytes, len, gadget_vmstate.version_id, NULL));
	bytes_again = save(&again, &len_again);
	MUST(len == len_again && !memcmp(bytes, bytes_again, len));
	again.extra = again.more = 0;
	free(save(&again, &fields));
	gadget_end(&again);
	/* Subsections are optional, the fields are not. */
	load_in_vain(bytes, fields - 1 - cut % fields, gadget_vmstate.version_id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t version;
	struct gadget g;
	bool ok;

	if (size < 2)
		return -1;
	version = 1 + data[0] % 3;
	gadget_make(&g);
	ok = load(&g, data + 2, size - 2, version, NULL);
	gadget_expect_bounds(&g);
	if (ok)
		expect_stable(&g, data[1]);
	else
		load_in_vain(data + 2, size - 2, version);
	gadget_end(&g);
	return 0;
}
