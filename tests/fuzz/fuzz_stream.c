/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole incoming migration: the input is what a source sends, and target.c reads it as it does in a real destination: its own
 * thread, a descriptor, header, CONFIGURATION with the checks against a (simulated) host, RAM, sections, commands, hand-over.
 *
 * What must hold is what the design promises whatever a source sends: one end and one only; the guest is taken over exactly where
 * that is said; the answers are a well-formed return path, in which nothing is claimed that did not happen.
 *
 * First byte: bit 0: over a socket (with a return path), else from a file.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migration/return_path.h"
#include "migration/target.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/devicetree.h"

#define INPUT_MAX (64u << 10)

struct attempt {
	struct fuzz_machine machine;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int built, taken, ended;
	enum target_end end;
	bool has_error;
};

static bool build(void *opaque, const struct configuration *cfg, struct section_table **sections,
		  struct error **errp)
{
	struct attempt *a = opaque;
	struct machine_plan plan;
	struct kvm_cpuid2 *table;

	a->built++;
	if (!devicetree_parse(cfg->fdt, cfg->fdt_bytes, &plan, errp) ||
	    !configuration_check_host(cfg, &a->machine.vm.kvm, errp) ||
	    !configuration_apply_tsc(cfg, &a->machine.vm, errp))
		return false;
	table = configuration_cpuid_table(cfg);
	MUST(table->nent == cfg->ncpuid);
	free(table);
	*sections = &a->machine.sections;
	return true;
}

static void take_over(void *opaque)
{
	((struct attempt *)opaque)->taken++;
}

static void ended(void *opaque, enum target_end end, struct error *err)
{
	struct attempt *a = opaque;

	pthread_mutex_lock(&a->lock);
	a->ended++;
	a->end = end;
	a->has_error = err != NULL;
	pthread_cond_signal(&a->cond);
	pthread_mutex_unlock(&a->lock);
	expect_outcome(end == TARGET_TOOK_OVER, err);
}

/* What a source would read: *shut is the value of the one SHUT, or -1. */
static void read_answers(int fd, int64_t *shut, unsigned int *took_over)
{
	static uint8_t answers[4 * INPUT_MAX];
	size_t len = 0;
	ssize_t n;
	struct reader r;
	struct message msg;

	while ((n = recv(fd, answers + len, sizeof(answers) - len, MSG_DONTWAIT)) > 0)
		len += (size_t)n;
	reader_open(&r, answers, len);
	while (!stream_in_at_end(r.in)) {
		message_get(r.in, &msg);
		MUST(stream_in_ok(r.in));
		MUST(msg.type == RETURN_SHUT || msg.type == RETURN_PONG ||
		     msg.type == RETURN_OFFERS || msg.type == RETURN_REASON ||
		     msg.type == RETURN_TOOK_OVER || (msg.type == RETURN_NOTICE && *shut < 0));
		if (msg.type == RETURN_SHUT) {
			MUST(*shut < 0 && msg.len == 4);
			*shut = msg.data[3];
		}
		*took_over += msg.type == RETURN_TOOK_OVER;
	}
	reader_close(&r);
}

static void check(const struct attempt *a, bool duplex, int fd)
{
	unsigned int told = 0;
	int64_t shut = -1;

	MUST(a->ended == 1 && a->built <= 1);
	MUST(a->taken == (a->end == TARGET_TOOK_OVER));
	MUST(a->has_error == (a->end != TARGET_TOOK_OVER));
	if (!duplex) {
		MUST(a->end != TARGET_IN_DOUBT);
		return;
	}
	read_answers(fd, &shut, &told);
	MUST(told <= a->taken);
	MUST(a->end != TARGET_IN_DOUBT || shut == 0);
	MUST(shut != 1 || a->end == TARGET_FAILED);
}

static int as_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

static int as_socket(const uint8_t *data, size_t size, int *peer)
{
	int fds[2], room = 4 * INPUT_MAX;

	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	MUST(!size || send(fds[0], data, size, MSG_DONTWAIT) == (ssize_t)size);
	shutdown(fds[0], SHUT_WR);
	*peer = fds[0];
	return fds[1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct attempt a;
	struct target_owner owner = { build, take_over, ended, &a };
	scoped_fd peer = -1;
	struct target *target;
	char uri[32];
	bool duplex;

	if (size < 1 || size > INPUT_MAX)
		return -1;
	a = (struct attempt){ .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
	machine_make(&a.machine);
	duplex = data[0] & 1;
	snprintf(uri, sizeof(uri), "fd:%d",
		 duplex ? as_socket(data + 1, size - 1, &peer) : as_file(data + 1, size - 1));
	target = target_start(&a.machine.vm, uri, &owner, NULL);
	MUST(target);
	pthread_mutex_lock(&a.lock);
	while (!a.ended)
		pthread_cond_wait(&a.cond, &a.lock);
	pthread_mutex_unlock(&a.lock);
	target_stop(target);
	check(&a, duplex, peer);
	machine_end(&a.machine);
	return 0;
}
