/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ferry analyze: the input is a file, its description included. Both forms are written; the JSON is one document whatever the
 * input is, the text has nothing that acts on a terminal, and an error begins with its offset, which lies in the file.
 */
#include "migration/analyze.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/app/analyze_print.h"
#include "vmm/base/cleanup.h"

/* What the form has written; to be freed. */
static char *write_form(const struct analyze_form *form, const uint8_t *data, size_t size,
			bool pages, size_t *len)
{
	scoped_free struct analyze_result *result = xcalloc(1, sizeof(*result));
	scoped_free char *prefix = NULL;
	struct analyze_visitor visitor;
	struct error *err = NULL;
	char *text = NULL;
	FILE *to = open_memstream(&text, len);
	void *printer;
	bool ok;

	MUST(to);
	printer = form->start(to, "input", pages);
	visitor = form->visitor(printer);
	if (!pages)
		visitor.page = NULL;
	ok = analyze_memory(data, size, &visitor, result, &err);
	MUST(result->bytes <= size);
	if (!ok) {
		prefix = xasprintf("offset 0x%llx: ", (unsigned long long)result->error_offset);
		MUST(err && strncmp(err->msg, prefix, strlen(prefix)) == 0);
		MUST(result->error_offset <= size);
	}
	form->finish(printer, result, true, true, err);
	expect_outcome(ok, err);
	MUST(fclose(to) == 0);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len;
	scoped_free char *text = write_form(&analyze_form_text, data, size, true, &len);
	scoped_free char *json = NULL;
	json_t *root;

	for (size_t i = 0; i < len; i++)
		MUST(text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~'));
	json = write_form(&analyze_form_json, data, size, size & 1, &len);
	root = json_loadb(json, len, 0, NULL);
	MUST(root && json_is_array(json_object_get(root, "sections")));
	json_decref(root);
	return 0;
}
