/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the event loop calls what is ready and nothing that was removed, runs posts in order, and
 * ends when it is told.
 *
 * How: pipes that are made ready before the loop runs, callbacks that write down their names,
 * threads that post.
 */
#include <pthread.h>

#include "tests/unit/support.h"
#include "vmm/base/clock.h"
#include "vmm/kvm/loop.h"

SUITE(loop);

struct source {
	struct loop *loop;
	struct loop_handle *handle;
	int fds[2];
	unsigned int calls;
	uint32_t events;
	struct source *victim; /* removed by the first call */
};

static void source_make(struct source *s, struct loop *loop, loop_fn fn)
{
	*s = (struct source){ .loop = loop };
	cr_assert_eq(pipe(s->fds), 0);
	s->handle = loop_add(loop, s->fds[0], EPOLLIN, fn, s);
	cr_assert_not_null(s->handle);
}

static void source_end(struct source *s)
{
	close(s->fds[0]);
	if (s->fds[1] >= 0)
		close(s->fds[1]);
}

static void make_ready(struct source *s)
{
	cr_assert_eq(write(s->fds[1], "x", 1), 1);
}

static void drain(struct source *s)
{
	char byte;

	cr_assert_eq(read(s->fds[0], &byte, 1), 1);
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

static void count_and_quit(void *opaque, uint32_t events)
{
	struct source *s = opaque;

	s->calls++;
	s->events = events;
	drain(s);
	loop_quit(s->loop);
}

Test(loop, calls_what_is_ready)
{
	struct loop *loop = loop_new(NULL);
	struct source a, b;

	source_make(&a, loop, count_and_quit);
	source_make(&b, loop, count_and_quit);
	make_ready(&a);
	loop_run(loop);
	cr_assert(a.calls == 1 && b.calls == 0);
	cr_assert(a.events & EPOLLIN);
	source_end(&a);
	source_end(&b);
	loop_free(loop); /* with handles in it */
	loop_free(NULL);
}

/* Posted behind two other posts, so that one round of events has passed between. */
static void third(void *opaque)
{
	loop_quit(opaque);
}

static void remove_victim(void *opaque, uint32_t events)
{
	struct source *s = opaque;

	(void)events;
	s->calls++;
	drain(s);
	if (s->victim)
		loop_remove(s->victim->handle);
	if (s->victim)
		s->victim->victim = NULL; /* it must not come to remove anybody */
	s->victim = NULL;
	loop_post(s->loop, third, s->loop);
}

/*
 * Both are ready and fetched in one round; whichever is called first removes the other, whose event
 * is in the loop's hands already. It must not be called, and its memory must last until the round
 * is over (as the address sanitizer sees).
 */
Test(loop, a_handle_removed_by_another_is_not_called)
{
	struct loop *loop = loop_new(NULL);
	struct source a, b;

	source_make(&a, loop, remove_victim);
	source_make(&b, loop, remove_victim);
	a.victim = &b;
	b.victim = &a;
	make_ready(&a);
	make_ready(&b);
	loop_run(loop);
	cr_assert_eq(a.calls + b.calls, 1, "%u and %u calls", a.calls, b.calls);
	source_end(&a);
	source_end(&b);
	loop_free(loop);
}

static void remove_self(void *opaque, uint32_t events)
{
	struct source *s = opaque;

	(void)events;
	s->calls++;
	loop_remove(s->handle);
	/* Its descriptor is still ready: a second call would come, were it not removed. */
	loop_post(s->loop, third, s->loop);
}

Test(loop, a_handle_may_remove_itself)
{
	struct loop *loop = loop_new(NULL);
	struct source s;

	source_make(&s, loop, remove_self);
	make_ready(&s);
	loop_run(loop);
	cr_assert_eq(s.calls, 1);
	source_end(&s);
	loop_remove(NULL);
	loop_free(loop);
}

static struct source again; /* each test is a process of its own */

static void replace_self(void *opaque, uint32_t events)
{
	struct source *s = opaque;

	(void)events;
	s->calls++;
	loop_remove(s->handle);
	again = (struct source){ .loop = s->loop, .fds = { s->fds[0], -1 } };
	again.handle = loop_add(s->loop, s->fds[0], EPOLLIN, count_and_quit, &again);
	cr_assert_not_null(again.handle, "a removed descriptor can be added at once");
}

Test(loop, a_descriptor_can_be_added_again_from_its_callback)
{
	struct loop *loop = loop_new(NULL);
	struct source s;

	source_make(&s, loop, replace_self);
	make_ready(&s);
	loop_run(loop);
	cr_assert(s.calls == 1 && again.calls == 1);
	source_end(&s);
	loop_free(loop);
}

static void see_hangup(void *opaque, uint32_t events)
{
	struct source *s = opaque;

	s->events = events;
	loop_quit(s->loop);
}

Test(loop, events_are_changed_and_hangups_are_told)
{
	struct loop *loop = loop_new(NULL);
	struct source s, other;

	source_make(&s, loop, see_hangup);
	source_make(&other, loop, count_and_quit);
	make_ready(&s);
	make_ready(&other);
	loop_set_events(s.handle, 0);
	loop_run(loop); /* a whole round, in which the other one is called */
	cr_assert_eq(s.events, 0, "nothing was asked for");
	loop_free(loop);
	source_end(&s);
	source_end(&other);
	loop = loop_new(NULL);
	source_make(&s, loop, see_hangup);
	loop_set_events(s.handle, 0);
	close(s.fds[1]);
	s.fds[1] = -1;
	loop_run(loop);
	cr_assert(s.events & EPOLLHUP);
	loop_remove(s.handle); /* while nobody runs the loop */
	source_end(&s);
	loop_free(loop);
}

Test(loop, a_regular_file_cannot_be_watched)
{
	struct loop *loop = loop_new(NULL);
	int fd = open("/proc/self/exe", O_RDONLY);

	cr_assert_geq(fd, 0);
	cr_assert_null(loop_add(loop, fd, EPOLLIN, see_hangup, NULL));
	close(fd);
	loop_free(loop);
}

/* --- posts --- */

struct order {
	struct loop *loop;
	unsigned int n;
	char text[64];
};

static struct order order;

#define POST_NAMED(letter)                      \
	static void post_##letter(void *opaque) \
	{                                       \
		struct order *o = opaque;       \
		o->text[o->n++] = #letter[0];   \
	}
POST_NAMED(a)
POST_NAMED(b)
POST_NAMED(c)

static void post_more(void *opaque)
{
	struct order *o = opaque;

	o->text[o->n++] = 'm';
	loop_post(o->loop, post_c, o);
	loop_post(o->loop, quit, o->loop);
	loop_post(o->loop, post_b, o); /* posted before the quit has happened */
}

Test(loop, posts_run_in_order_and_before_the_quit)
{
	order.loop = loop_new(NULL);
	loop_post(order.loop, post_a, &order);
	loop_post(order.loop, post_b, &order);
	loop_post(order.loop, post_more, &order);
	loop_post(order.loop, post_a, &order);
	loop_run(order.loop);
	cr_assert_str_eq(order.text, "abmacb");
	loop_free(order.loop);
}

Test(loop, what_was_posted_before_the_quit_has_been_run)
{
	order.loop = loop_new(NULL);
	loop_post(order.loop, post_a, &order);
	loop_post(order.loop, post_b, &order);
	loop_quit(order.loop);
	loop_run(order.loop);
	cr_assert_str_eq(order.text, "ab");
	loop_post(order.loop, post_c, &order); /* never run: freed */
	loop_free(order.loop);
	cr_assert_str_eq(order.text, "ab");
}

#define POSTERS 3
#define POSTS 500

struct poster {
	struct loop *loop;
	unsigned int sent, seen; /* the poster's, the loop's */
	unsigned int *left;	 /* posters that are not done: the loop's */
	bool disorder;
};

struct letter {
	struct poster *from;
	unsigned int number;
};

static void receive(void *opaque)
{
	struct letter *letter = opaque;
	struct poster *p = letter->from;

	p->disorder |= letter->number != p->seen++;
	if (p->seen == POSTS && --*p->left == 0)
		loop_quit(p->loop);
	free(letter);
}

static void *post_many(void *opaque)
{
	struct poster *p = opaque;

	for (; p->sent < POSTS; p->sent++) {
		struct letter *letter = malloc(sizeof(*letter));

		*letter = (struct letter){ p, p->sent };
		loop_post(p->loop, receive, letter);
	}
	return NULL;
}

/* Each poster's own order is kept, and no post is lost to a wake-up that was missed. */
Test(loop, threads_post_while_it_runs, .timeout = 60)
{
	struct loop *loop = loop_new(NULL);
	struct poster posters[POSTERS];
	unsigned int left = POSTERS;
	pthread_t threads[POSTERS];

	for (unsigned int i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){ .loop = loop, .left = &left };
		pthread_create(&threads[i], NULL, post_many, &posters[i]);
	}
	loop_run(loop);
	for (unsigned int i = 0; i < POSTERS; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_eq(posters[i].seen, POSTS);
		cr_assert_not(posters[i].disorder);
	}
	loop_free(loop);
}

static void *add_from_outside(void *opaque)
{
	struct source *s = opaque;

	s->handle = loop_add(s->loop, s->fds[0], EPOLLIN, count_and_quit, s);
	return NULL;
}

Test(loop, a_thread_adds_while_it_runs, .timeout = 60)
{
	struct loop *loop = loop_new(NULL);
	struct source s = { .loop = loop };
	pthread_t thread;

	cr_assert_eq(pipe(s.fds), 0);
	make_ready(&s);
	pthread_create(&thread, NULL, add_from_outside, &s);
	loop_run(loop);
	pthread_join(thread, NULL);
	cr_assert_eq(s.calls, 1);
	source_end(&s);
	loop_free(loop);
}

#define PAUSE_MS 20
#define PAUSES 3

static void pause_often(void *opaque, uint32_t events)
{
	struct source *s = opaque;

	(void)events;
	if (s->calls++ == PAUSES)
		loop_quit(s->loop);
	else
		loop_pause(s->handle, PAUSE_MS);
}

/* What stays ready is called once a pause, and not over and over. */
Test(loop, a_pause_ends_by_itself, .timeout = 60)
{
	struct loop *loop = loop_new(NULL);
	uint64_t start = clock_now_ns();
	struct source s;

	source_make(&s, loop, pause_often);
	make_ready(&s);
	loop_run(loop);
	cr_assert_eq(s.calls, PAUSES + 1);
	cr_assert_geq(clock_now_ns() - start, PAUSES * PAUSE_MS * NS_PER_MS);
	source_end(&s);
	loop_free(loop);
}

/* Ends the victim's pause soon, with its events set anew in it. */
static void shorten_pause(void *opaque, uint32_t events)
{
	struct source *s = opaque;

	(void)events;
	s->calls++;
	drain(s);
	loop_set_events(s->victim->handle, 0);
	loop_pause(s->victim->handle, 1);
	loop_set_events(s->victim->handle, EPOLLIN);
}

/* Others are called meanwhile; what is set in a pause holds behind it; a handle may go in its pause. */
Test(loop, a_pause_is_one_handles, .timeout = 60)
{
	struct loop *loop = loop_new(NULL);
	struct source paused, gone, other;

	source_make(&paused, loop, count_and_quit);
	source_make(&gone, loop, count_and_quit);
	source_make(&other, loop, shorten_pause);
	other.victim = &paused;
	make_ready(&paused);
	make_ready(&gone);
	make_ready(&other);
	loop_pause(paused.handle, 1);
	loop_pause(paused.handle, 600000);
	loop_pause(gone.handle, 1);
	loop_remove(gone.handle);
	loop_run(loop);
	cr_assert(other.calls == 1 && paused.calls == 1 && !gone.calls);
	source_end(&paused);
	source_end(&gone);
	source_end(&other);
	loop_free(loop);
}
