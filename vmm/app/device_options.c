/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/device_options.h"

#include <limits.h>
#include <string.h>
#include <sys/random.h>

#include "devices/backend/chardev.h"
#include "devices/backend/tap.h"
#include "vmm/base/cleanup.h"

/* What may follow the host's side. */
enum { TAKES_RO = 1, TAKES_MAC = 2 };

static bool take_path(struct device_option *d, const char *text, struct error **errp);
static bool take_chardev(struct device_option *d, const char *text, struct error **errp);
static bool take_tap(struct device_option *d, const char *text, struct error **errp);

static const struct kind {
	const char *option, *kind, *id_prefix;
	unsigned int takes;
	/* Takes the host's side; NULL: the option has no value. */
	bool (*take_host)(struct device_option *d, const char *text, struct error **errp);
} kinds[] = {
	{ "rng", "rng", "rng", 0, NULL },
	{ "disk", "block", "disk", TAKES_RO, take_path },
	{ "net", "net", "net", TAKES_MAC, take_tap },
	{ "console", "console", "console", 0, take_chardev },
};

/* Absolute, for a destination may be started somewhere else. What cannot be found is left to who opens it. */
static bool take_path(struct device_option *d, const char *text, struct error **errp)
{
	char *real = realpath(text, NULL);

	(void)errp;
	d->host = real ? real : xstrdup(text);
	return true;
}

static bool take_chardev(struct device_option *d, const char *text, struct error **errp)
{
	if (!chardev_check_spec(text, errp)) {
		error_prefix(errp, "--console: ");
		return false;
	}
	d->host = xstrdup(text);
	return true;
}

/* Without an address of the user's, one of those that nobody else gives out. */
static bool take_tap(struct device_option *d, const char *text, struct error **errp)
{
	static const uint8_t ours[] = { 0x52, 0x54, 0x00 };

	if (strncmp(text, "tap:", 4) != 0 || !tap_name_ok(text + 4)) {
		error_set(errp, "--net: '%s': expected tap:NAME, an interface's name", text);
		return false;
	}
	d->host = xstrdup(text + 4);
	if (!d->has_mac) {
		memcpy(d->mac, ours, sizeof(ours));
		d->has_mac = getrandom(d->mac + 3, 3, 0) == 3;
	}
	return true;
}

static bool is_console(const struct device_option *d)
{
	return strcmp(d->kind, "console") == 0;
}

static const struct kind *find_kind(const char *option)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].option, option) == 0)
			return &kinds[i];
	return NULL;
}

/* A name that the command line did not give: the first number that is free. */
static void name_it(const struct device_options *o, struct device_option *d, const char *prefix)
{
	bool taken = true;

	for (unsigned int n = 0; taken; n++) {
		snprintf(d->id, sizeof(d->id), "%s%u", prefix, n);
		taken = false;
		for (unsigned int i = 0; i < o->n; i++)
			taken |= strcmp(o->list[i].id, d->id) == 0;
	}
}

static bool take_id(const struct device_options *o, struct device_option *d, const char *id,
		    const char *option, struct error **errp)
{
	if (!devicetree_id_ok(id)) {
		error_set(errp, "--%s: id '%s': expected 1 to %d letters, digits, '-', '_', '.'",
			  option, id, MACHINE_ID_MAX);
		return false;
	}
	for (unsigned int i = 0; i < o->n; i++) {
		if (strcmp(o->list[i].id, id) == 0) {
			error_set(errp, "--%s: id '%s' is given twice", option, id);
			return false;
		}
	}
	strcpy(d->id, id);
	return true;
}

static bool take_mac(struct device_option *d, const char *text, struct error **errp)
{
	uint8_t *m = d->mac;
	int used = 0;

	d->has_mac = sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &m[0], &m[1], &m[2],
			    &m[3], &m[4], &m[5], &used) == 6 &&
		     !text[used] && !(m[0] & 1);
	if (!d->has_mac)
		error_set(errp,
			  "--net: mac '%s': expected six bytes as 52:54:00:12:34:56, not a "
			  "group's",
			  text);
	return d->has_mac;
}

/* Options behind the host's side are taken off its end; a comma that begins none of them belongs to it. */
static bool take_tail(const struct device_options *o, const struct kind *k, struct device_option *d,
		      char *text, struct error **errp)
{
	char *comma;

	while ((comma = strrchr(text, ',')) != NULL) {
		const char *word = comma + 1;

		if (strncmp(word, "id=", 3) == 0) {
			if (!take_id(o, d, word + 3, k->option, errp))
				return false;
		} else if (k->takes & TAKES_RO && strcmp(word, "ro") == 0) {
			d->read_only = true;
		} else if (k->takes & TAKES_MAC && strncmp(word, "mac=", 4) == 0) {
			if (!take_mac(d, word + 4, errp))
				return false;
		} else {
			break;
		}
		*comma = '\0';
	}
	if (*text)
		return true;
	error_set(errp, "--%s: a value is missing", k->option);
	return false;
}

bool device_options_add(struct device_options *o, const char *option, const char *text,
			struct error **errp)
{
	const struct kind *k = find_kind(option);
	struct device_option d = { .kind = k->kind };
	scoped_free char *copy = text ? xstrdup(text) : NULL;

	if (o->n == MACHINE_MAX_VIRTIO) {
		error_set(errp, "--%s: more than %d virtio devices", option, MACHINE_MAX_VIRTIO);
		return false;
	}
	if (copy && (!take_tail(o, k, &d, copy, errp) || !k->take_host(&d, copy, errp)))
		return false;
	if (!d.id[0])
		name_it(o, &d, k->id_prefix);
	o->list[o->n++] = d;
	return true;
}

void device_options_describe(const struct device_options *o, struct machine_options *machine)
{
	machine->nvirtio = o->n;
	for (unsigned int i = 0; i < o->n; i++) {
		const struct device_option *d = &o->list[i];

		machine->virtio[i] = (struct machine_virtio){
			.kind = d->kind,
			.id = d->id,
			.path = is_console(d) ? NULL : d->host,
			.read_only = d->read_only,
			.has_mac = d->has_mac,
		};
		memcpy(machine->virtio[i].mac, d->mac, sizeof(d->mac));
	}
}

const char *device_option_console(const struct device_option *d)
{
	return is_console(d) ? d->host : NULL;
}

void device_options_release(struct device_options *o)
{
	for (unsigned int i = 0; i < o->n; i++)
		free(o->list[i].host);
	o->n = 0;
}
