// SPDX-License-Identifier: MIT
/*
 * weir-nbd: pages on a network block device, by libnbd.
 *
 * A request is one command: one page, or neighbours of one batch. It is pending, or on a connection, until its answer
 * has come. A connection that dies, or gives no answer for a quarter of the timeout, is closed; its requests are
 * pending again, and go to whatever connection there is. What is older than the timeout fails, and as long as nothing
 * has come since then all that is new fails at once.
 *
 * The last page of the export is ours: it says whose swap this is. It is read again at each new connection, so a
 * server that has come back without its data is not taken for the one that we knew.
 *
 * Threads: the ring's (submits), the keeper's (times out), one per connection (polls, connects). `lock` guards the
 * requests and their lists, and is the innermost: libnbd calls back with its own lock held. A connection's `use` is
 * held around each call of libnbd by another thread than its own, which takes it to replace the handle.
 */
#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/assert.h"
#include "engine/engine.h"
#include "base/process.h"
#include "sync/wait.h"

enum {
	CONNECTIONS_MAX = 16,
	CONNECTIONS_DEFAULT = 4,
	GROUP_MAX = 32, /* pages in a command */
	BOUNCE_BUFFERS = 16,
	/*
	 * Pages that a connection is given at a time, or one command of more. Of fewer, each wakes a thread on both
	 * sides; and servers work on so many commands of a connection at once (nbdkit, qemu-nbd): a batch goes by some.
	 */
	SHARE = 16,
	POLL_MS = 100,
	PAGES_MIN = 256, /* an export of less is a mistake */
	HEAD_PAGES = 16, /* where file systems and partition tables begin */
	BACKOFF_MS_MIN = 20,
	BACKOFF_MS_MAX = 1000,
	TROUBLE_TEXT = 160,
};

#define PAGES_MAX ((u64)1 << 30)
#define LEAVE_NS 5000000000ull
#define PATIENCE_NS 2000000000ull
#define SIGNATURE "weir swap 1"

struct signature {
	char magic[16];
	char machine[ENGINE_MACHINE]; /* that uses it; empty: none does */
	u64 process; /* there */
	u64 run; /* random */
};

struct connection;

struct request {
	struct request *next, **link; /* of the list that it is on; link: NULL: on none */
	struct connection *c; /* where it was sent; NULL: pending */
	u32 op, nr; /* enum ring_op; cells */
	u64 location, nr_pages;
	u64 begin_ns;
	u8 *data; /* the first cell's page, or a bounce buffer */
	int bounce; /* its number; -1: none */
	bool sent, repeated, expired;
	u32 cells[GROUP_MAX];
};

struct connection {
	pthread_mutex_t use;
	struct nbd_handle *nbd; /* replaced by its thread, with `use` and `lock` held */
	pthread_t thread;
	int kick_fd; /* an eventfd: look again */
	/* Guarded by `lock`. */
	bool ready;
	bool broken; /* to be closed by its thread */
	struct request *requests;
	u32 nr_requests;
	u64 progress_ns; /* when the last answer came, or the first of the requests went */
};

static struct {
	struct engine *e;
	const char *uri;
	u64 timeout_ns;
	u64 nr_pages; /* the signature's comes after these */
	u64 nr_touched; /* pages up to the highest that was written; ring's thread */
	u32 group_max;
	bool can_trim;
	struct signature signature;
	u32 nr_connections;
	struct connection connection[CONNECTIONS_MAX];
	struct atomic32 stop;

	pthread_mutex_t lock;
	struct request request[RING_CELLS];
	struct request *free, *pending, **pending_tail;
	u32 bounce_used; /* bits */
	bool failing; /* a request has expired, and nothing has come since */
	char trouble[TROUBLE_TEXT]; /* of the connections, at the moment; "": none */
	u8 (*bounce)[GROUP_MAX * PAGE_SIZE];
} n = { .lock = PTHREAD_MUTEX_INITIALIZER, .pending_tail = &n.pending };

/* ---- what is wrong ---- */

/* The reason that the run is told: that requests fail for want of an answer comes before what connecting anew finds. */
static void tell_locked(void)
{
	if (!n.failing)
		engine_reason(n.e, "%s", n.trouble);
	else
		engine_reason(n.e, "no answer within %llu s (timeout=)%s%s",
			      (unsigned long long)(n.timeout_ns / 1000000000), *n.trouble ? ": " : "", n.trouble);
}

printf_like(1, 2) static void trouble(const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&n.lock);
	va_start(ap, fmt);
	vsnprintf(n.trouble, sizeof(n.trouble), fmt, ap);
	va_end(ap);
	tell_locked();
	pthread_mutex_unlock(&n.lock);
}

/* ---- lists of requests. Context: lock held ---- */

static void pending_add(struct request *r)
{
	r->c = NULL;
	r->next = NULL;
	r->link = n.pending_tail;
	*n.pending_tail = r;
	n.pending_tail = &r->next;
}

static void connection_add(struct connection *c, struct request *r)
{
	r->c = c;
	r->next = c->requests;
	r->link = &c->requests;
	if (r->next)
		r->next->link = &r->next;
	c->requests = r;
	if (!c->nr_requests++)
		c->progress_ns = sync_clock_ns();
}

static void request_unlink(struct request *r)
{
	must(r->link);
	*r->link = r->next;
	if (r->next)
		r->next->link = r->link;
	if (n.pending_tail == &r->next)
		n.pending_tail = r->link;
	r->link = NULL;
	if (r->c)
		r->c->nr_requests--;
}

/* ---- the end of a request ---- */

/* The request is on no list any more, and libnbd knows nothing of it. */
static void request_end(struct request *r, int err)
{
	u32 flags = r->op != RING_READ && r->sent && (err || r->repeated) ? CELL_TAINTED : 0;

	must(!r->link);
	for (u32 i = 0; i < r->nr; i++) {
		if (!err && r->op == RING_READ && r->bounce >= 0)
			memcpy(ring_page(n.e->ring, r->cells[i]), r->data + i * PAGE_SIZE, PAGE_SIZE);
		engine_complete(n.e, r->cells[i], err, flags);
	}
	pthread_mutex_lock(&n.lock);
	if (r->bounce >= 0)
		n.bounce_used &= ~(1u << r->bounce);
	r->next = n.free;
	n.free = r;
	pthread_mutex_unlock(&n.lock);
}

static void end_all(struct request *list, int err)
{
	while (list) {
		struct request *r = list;

		list = r->next;
		request_end(r, err);
	}
}

static void kick(struct connection *c)
{
	u64 one = 1;

	must(write(c->kick_fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN);
}

/* Its pages one by one, so that an error costs the page that it hit. Context: lock held. */
static void request_split(struct request *r)
{
	struct request all = *r;

	if (r->bounce >= 0)
		n.bounce_used &= ~(1u << r->bounce);
	r->next = n.free;
	n.free = r;
	for (u32 i = 0; i < all.nr; i++) {
		struct request *one = n.free;

		must(one);
		n.free = one->next;
		*one = (struct request){
			.op = all.op,
			.nr = 1,
			.location = all.location + i,
			.nr_pages = 1,
			.begin_ns = all.begin_ns,
			.data = ring_page(n.e->ring, all.cells[i]),
			.bounce = -1,
			.sent = all.repeated, /* this one has been answered, an earlier one not */
			.cells = { all.cells[i] },
		};
		pending_add(one);
	}
}

/* Called by libnbd, in whatever thread talks to the connection. ENOTCONN, ESHUTDOWN: the connection's own end. */
static int on_completion(void *user_data, int *error)
{
	struct request *r = user_data;
	int err = *error;

	pthread_mutex_lock(&n.lock);
	if (err == ENOTCONN || err == ESHUTDOWN) {
		r->c->broken = true; /* its thread sees to all of them */
		kick(r->c);
		pthread_mutex_unlock(&n.lock);
		return 1;
	}
	r->c->progress_ns = sync_clock_ns();
	request_unlink(r);
	if (n.failing && !err) {
		n.failing = false;
		tell_locked();
	}
	if (err && r->nr > 1) {
		kick(r->c);
		request_split(r);
		pthread_mutex_unlock(&n.lock);
		return 1;
	}
	pthread_mutex_unlock(&n.lock);
	if (err && err != ENOSPC)
		engine_reason(n.e, "the server answers: %s", strerror(err));
	request_end(r, err == ENOSPC ? -ENOSPC : err ? -EIO : 0);
	return 1;
}

/* ---- sending ---- */

static s64 send_command(struct nbd_handle *nbd, struct request *r)
{
	nbd_completion_callback done = { .callback = on_completion, .user_data = r };
	u64 offset = r->location << PAGE_SHIFT;
	size_t bytes = (size_t)r->nr_pages << PAGE_SHIFT;

	switch (r->op) {
	case RING_READ:
		return nbd_aio_pread(nbd, r->data, bytes, offset, done, 0);
	case RING_WRITE:
		return nbd_aio_pwrite(nbd, r->data, bytes, offset, done, 0);
	default:
		return nbd_aio_trim(nbd, bytes, offset, done, 0);
	}
}

/* Context: lock held. */
static struct connection *choose_connection(void)
{
	struct connection *best = NULL;

	for (u32 i = 0; i < n.nr_connections; i++) {
		struct connection *c = &n.connection[i];

		if (c->ready && !c->broken && (!best || c->nr_requests < best->nr_requests))
			best = c;
	}
	return best;
}

/* Gives the connection a share of what is pending. Returns how many. Context: `use` held, so that the handle stays. */
static u32 take_pending(struct connection *c, struct request *share[SHARE])
{
	u32 nr = 0, pages = 0;

	pthread_mutex_lock(&n.lock);
	while (c->ready && !c->broken && n.pending && pages < SHARE) {
		share[nr] = n.pending;
		request_unlink(share[nr]);
		connection_add(c, share[nr]);
		pages += share[nr++]->nr;
	}
	pthread_mutex_unlock(&n.lock);
	return nr;
}

/* Context: `use` held: what it has but was not sent cannot be answered, and is pending again when it is closed. */
static void send_all(struct connection *c, struct request *const *share, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		share[i]->repeated = share[i]->sent;
		share[i]->sent = true;
		if (send_command(c->nbd, share[i]) < 0) {
			pthread_mutex_lock(&n.lock);
			c->broken = true;
			pthread_mutex_unlock(&n.lock);
			kick(c);
			return;
		}
	}
}

/* Sends what is pending, as long as there is a connection. Any thread. */
static void dispatch(void)
{
	for (;;) {
		struct request *share[SHARE];
		struct connection *c;
		u32 nr;

		pthread_mutex_lock(&n.lock);
		c = n.pending ? choose_connection() : NULL;
		pthread_mutex_unlock(&n.lock);
		if (!c)
			return;
		pthread_mutex_lock(&c->use);
		nr = take_pending(c, share);
		send_all(c, share, nr);
		/* What the socket did not take at once its own thread sends on. */
		if (nr && (nbd_aio_get_direction(c->nbd) & LIBNBD_AIO_DIRECTION_WRITE))
			kick(c);
		pthread_mutex_unlock(&c->use);
	}
}

/* How many of the cells make one command: neighbours, at most that many. */
static u32 group_length(const u32 *cells, u32 nr, bool *in_place)
{
	const struct ring_cell *first = engine_cell(n.e, cells[0]);
	u32 len = 1;

	*in_place = true;
	if (first->op == RING_TRIM)
		return 1;
	while (len < nr && len < n.group_max) {
		const struct ring_cell *c = engine_cell(n.e, cells[len]);

		if (c->op != first->op || c->location != first->location + len)
			break;
		*in_place = *in_place && cells[len] == cells[0] + len;
		len++;
	}
	return len;
}

/* A buffer for a command whose pages lie apart. False: all are in use. Context: lock held. */
static bool take_bounce(struct request *r)
{
	r->bounce = __builtin_ffs((int)~n.bounce_used) - 1;
	if (r->bounce < 0 || r->bounce >= BOUNCE_BUFFERS) {
		r->bounce = -1;
		return false;
	}
	n.bounce_used |= 1u << r->bounce;
	r->data = n.bounce[r->bounce];
	return true;
}

static struct request *make_request(const u32 *cells, u32 nr, bool in_place)
{
	const struct ring_cell *first = engine_cell(n.e, cells[0]);
	struct request *r;

	pthread_mutex_lock(&n.lock);
	r = n.free;
	must(r); /* as many as there are cells */
	n.free = r->next;
	*r = (struct request){
		.op = first->op, .location = first->location, .bounce = -1, .begin_ns = sync_clock_ns()
	};
	r->data = ring_page(n.e->ring, cells[0]);
	r->nr = in_place || take_bounce(r) ? nr : 1;
	r->nr_pages = r->op == RING_TRIM ? first->nr : r->nr;
	pthread_mutex_unlock(&n.lock);
	memcpy(r->cells, cells, r->nr * sizeof(*cells));
	for (u32 i = 0; i < r->nr && r->bounce >= 0 && r->op == RING_WRITE; i++)
		memcpy(r->data + i * PAGE_SIZE, ring_page(n.e->ring, cells[i]), PAGE_SIZE);
	return r;
}

/* Returns how many of the cells are dealt with. */
static u32 submit_some(const u32 *cells, u32 nr)
{
	bool in_place, failing;
	u32 len = group_length(cells, nr, &in_place);
	struct request *r;

	if (engine_cell(n.e, cells[0])->op == RING_TRIM && !n.can_trim) {
		engine_complete(n.e, cells[0], 0, 0);
		return 1;
	}
	r = make_request(cells, len, in_place);
	len = r->nr;
	if (r->op == RING_WRITE)
		n.nr_touched = max_u64(n.nr_touched, r->location + len);
	pthread_mutex_lock(&n.lock);
	failing = n.failing;
	if (!failing)
		pending_add(r);
	pthread_mutex_unlock(&n.lock);
	if (failing)
		request_end(r, -EIO);
	return len;
}

static void nbd_submit(struct engine *e, const u32 *cells, u32 nr)
{
	(void)e;
	for (u32 i = 0; i < nr;)
		i += submit_some(cells + i, nr - i);
	dispatch();
}

/* ---- one command at a time, while nobody else has the handle. 0 or -1, and libnbd's error is set ---- */

static bool is_over(u64 deadline)
{
	return sync_clock_ns() >= deadline || atomic32_load_acquire(&n.stop);
}

static int wait_ready(struct nbd_handle *nbd, u64 deadline)
{
	while (!nbd_aio_is_ready(nbd)) {
		if (nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd) || is_over(deadline))
			return -1;
		if (nbd_poll(nbd, POLL_MS) < 0)
			return -1;
	}
	return 0;
}

static int wait_command(struct nbd_handle *nbd, s64 cookie, u64 deadline)
{
	int done = 0;

	if (cookie < 0)
		return -1;
	while ((done = nbd_aio_command_completed(nbd, (u64)cookie)) == 0) {
		if (is_over(deadline) || nbd_poll(nbd, POLL_MS) < 0)
			return -1;
	}
	return done < 0 ? -1 : 0;
}

static int read_pages(struct nbd_handle *nbd, u64 location, u32 nr, void *data, u64 deadline)
{
	return wait_command(nbd,
			    nbd_aio_pread(nbd, data, nr * PAGE_SIZE, location << PAGE_SHIFT, NBD_NULL_COMPLETION, 0),
			    deadline);
}

static int write_signature(struct nbd_handle *nbd, u64 deadline)
{
	static u8 page[PAGE_SIZE];
	bool fua = nbd_can_fua(nbd) > 0;

	memcpy(page, &n.signature, sizeof(n.signature));
	return wait_command(nbd,
			    nbd_aio_pwrite(nbd, page, PAGE_SIZE, n.nr_pages << PAGE_SHIFT, NBD_NULL_COMPLETION,
					   fua ? LIBNBD_CMD_FLAG_FUA : 0),
			    deadline);
}

/* What libnbd complains of, without the name of the call. */
static const char *nbd_reason(void)
{
	const char *text = nbd_get_error(), *colon = text ? strstr(text, ": ") : NULL;

	return colon ? colon + 2 : text ? text : "no answer";
}

/* ---- connections ---- */

static struct nbd_handle *nbd_connect_new(u64 deadline)
{
	struct nbd_handle *nbd = nbd_create();

	if (!nbd)
		return NULL;
	nbd_set_uri_allow_local_file(nbd, true); /* keys of TLS */
	/* Commands succeed or fail as a whole here: the answers of fewer parts take half of the system calls. */
	nbd_set_request_structured_replies(nbd, false);
	nbd_set_pread_initialize(nbd, false);
	if (!nbd_aio_connect_uri(nbd, n.uri) && !wait_ready(nbd, deadline))
		return nbd;
	trouble("%s", nbd_reason());
	nbd_close(nbd);
	return NULL;
}

/* Is it the export that we know, with what we wrote? */
static bool is_known(struct nbd_handle *nbd, u64 deadline)
{
	u8 page[PAGE_SIZE];

	if (nbd_get_size(nbd) < (s64)((n.nr_pages + 1) << PAGE_SHIFT)) {
		trouble("the export has become smaller");
		return false;
	}
	if (read_pages(nbd, n.nr_pages, 1, page, deadline)) {
		trouble("%s", nbd_reason());
		return false;
	}
	if (!memcmp(page, &n.signature, sizeof(n.signature)))
		return true;
	trouble("the server has come back without what was stored there");
	return false;
}

static bool connection_open(struct connection *c)
{
	u64 deadline = sync_clock_ns() + n.timeout_ns / 4;
	struct nbd_handle *nbd = nbd_connect_new(deadline);

	if (nbd && !is_known(nbd, deadline)) {
		nbd_close(nbd);
		nbd = NULL;
	}
	if (!nbd)
		return false;
	pthread_mutex_lock(&c->use);
	pthread_mutex_lock(&n.lock);
	c->nbd = nbd;
	c->ready = true;
	c->broken = n.failing = false;
	n.trouble[0] = '\0';
	tell_locked();
	pthread_mutex_unlock(&n.lock);
	pthread_mutex_unlock(&c->use);
	return true;
}

/* What it had in flight is pending again, or has waited for too long and fails. */
static void connection_close(struct connection *c)
{
	struct request *r, *expired = NULL;

	pthread_mutex_lock(&c->use);
	pthread_mutex_lock(&n.lock);
	c->ready = false;
	pthread_mutex_unlock(&n.lock);
	nbd_close(c->nbd); /* from here on it touches no data of ours */
	pthread_mutex_lock(&n.lock);
	c->nbd = NULL;
	while ((r = c->requests)) {
		request_unlink(r);
		if (r->expired) {
			r->next = expired;
			expired = r;
		} else {
			pending_add(r);
		}
	}
	pthread_mutex_unlock(&n.lock);
	pthread_mutex_unlock(&c->use);
	end_all(expired, -EIO);
}

/* Its thread, or the keeper, has given it up; or it has been silent for too long. */
static bool is_to_close(struct connection *c)
{
	bool silent, broken;

	pthread_mutex_lock(&n.lock);
	silent = c->nr_requests && sync_clock_ns() - c->progress_ns > n.timeout_ns / 4;
	broken = c->broken;
	pthread_mutex_unlock(&n.lock);
	if (silent)
		trouble("the server is silent; connecting anew");
	return broken || silent;
}

/*
 * Each call takes one answer at most. None may be made when there is nothing: libnbd would then wait for an answer, and
 * send no command before it has come.
 */
static void take_answers(struct connection *c)
{
	u32 nr = 0;
	int bytes = 0;

	do
		(void)nbd_aio_notify_read(c->nbd);
	while (++nr < RING_CELLS && !ioctl(nbd_aio_get_fd(c->nbd), FIONREAD, &bytes) && bytes > 0);
}

/* One round of waiting for the socket. False: the connection has died. */
static bool connection_poll(struct connection *c)
{
	unsigned int direction = nbd_aio_get_direction(c->nbd);
	struct pollfd fds[2] = {
		{ .fd = nbd_aio_get_fd(c->nbd) },
		{ .fd = c->kick_fd, .events = POLLIN },
	};
	u64 kicks;

	fds[0].events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
				(direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
	if (poll(fds, 2, POLL_MS) < 0)
		return true;
	if (fds[1].revents && read(c->kick_fd, &kicks, sizeof(kicks)) < 0)
		must(errno == EAGAIN);
	/* Errors are told by is_dead below; a direction that has changed meanwhile is none. */
	if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
		take_answers(c);
	else if (fds[0].revents & POLLOUT)
		(void)nbd_aio_notify_write(c->nbd);
	if (!nbd_aio_is_dead(c->nbd) && !nbd_aio_is_closed(c->nbd))
		return true;
	trouble("the connection is lost; connecting anew");
	return false;
}

static void back_off(struct connection *c, int *ms)
{
	struct pollfd fd = { .fd = c->kick_fd };

	poll(&fd, 1, *ms);
	*ms = *ms * 2 < BACKOFF_MS_MAX ? *ms * 2 : BACKOFF_MS_MAX;
}

static void *connection_main(void *arg)
{
	struct connection *c = arg;
	int backoff_ms = BACKOFF_MS_MIN;

	while (!atomic32_load_acquire(&n.stop)) {
		if (!c->nbd && !connection_open(c)) {
			back_off(c, &backoff_ms);
			continue;
		}
		do {
			dispatch();
			backoff_ms = BACKOFF_MS_MIN;
		} while (!atomic32_load_acquire(&n.stop) && !is_to_close(c) && connection_poll(c));
		if (atomic32_load_acquire(&n.stop))
			break;
		connection_close(c);
		dispatch();
	}
	return NULL;
}

/* ---- time-outs ---- */

static void nbd_tick(struct engine *e)
{
	struct request *r, *next, *expired = NULL;
	bool any = false;
	u64 now;

	(void)e;
	pthread_mutex_lock(&n.lock);
	now = sync_clock_ns(); /* later than any that is there */
	for (r = n.pending; r; r = next) {
		next = r->next;
		if (now - r->begin_ns <= n.timeout_ns)
			continue;
		request_unlink(r);
		r->next = expired;
		expired = r;
		any = true;
	}
	for (u32 i = 0; i < n.nr_connections; i++) {
		struct connection *c = &n.connection[i];

		for (r = c->requests; r; r = r->next) {
			if (now - r->begin_ns <= n.timeout_ns)
				continue;
			r->expired = c->broken = any = true;
			kick(c);
		}
	}
	if (any) {
		n.failing = true;
		tell_locked();
	}
	pthread_mutex_unlock(&n.lock);
	end_all(expired, -EIO);
}

/* ---- the beginning ---- */

static void make_signature(void)
{
	n.signature = (struct signature){ .magic = SIGNATURE, .process = n.e->ring->engine };
	engine_machine(n.signature.machine);
	if (getrandom(&n.signature.run, sizeof(n.signature.run), GRND_NONBLOCK) < 0)
		n.signature.run = sync_clock_ns();
}

static bool is_zero(const u8 *data, size_t bytes)
{
	return !data[0] && !memcmp(data, data + 1, bytes - 1);
}

/* Another engine of this machine, which lives. One that is about to end has some time for it. */
static bool is_used(struct nbd_handle *nbd, u8 *last, u64 deadline)
{
	u64 patience = sync_clock_ns() + PATIENCE_NS;
	struct signature old;

	for (;;) {
		memcpy(&old, last, sizeof(old));
		if (strncmp(old.machine, n.signature.machine, sizeof(old.machine)) || process_is_dead(old.process))
			return false;
		if (sync_clock_ns() > patience)
			return true;
		poll(NULL, 0, POLL_MS);
		if (read_pages(nbd, n.nr_pages, 1, last, deadline))
			return true;
	}
}

/* Swap goes over everything that is there: only where that is ours, or nothing. */
static int check_contents(struct engine *e, struct nbd_handle *nbd, u64 deadline)
{
	static u8 last[PAGE_SIZE], head[HEAD_PAGES * PAGE_SIZE];

	if (read_pages(nbd, n.nr_pages, 1, last, deadline) || read_pages(nbd, 0, HEAD_PAGES, head, deadline))
		return engine_error(e, "cannot be read: %s", nbd_reason());
	if (!memcmp(last, SIGNATURE, sizeof(SIGNATURE))) {
		if (is_used(nbd, last, deadline))
			return engine_error(e, "another run of this machine uses the export; give each its own");
		return 0;
	}
	if (is_zero(last, sizeof(last)) && is_zero(head, sizeof(head)))
		return 0;
	if (!engine_option_number(e, "overwrite"))
		return engine_error(e, "the export holds data that is not weir's; say overwrite=on if nobody needs it");
	return 0;
}

static int check_export(struct engine *e, struct nbd_handle *nbd)
{
	s64 size = nbd_get_size(nbd), smallest = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM),
	    largest = nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);

	if (nbd_is_read_only(nbd))
		return engine_error(e, "the export is read-only");
	if (size < (s64)(PAGES_MIN * PAGE_SIZE))
		return engine_error(e, "the export has %lld bytes, and the least is 1M", (long long)size);
	if (smallest > (s64)PAGE_SIZE)
		return engine_error(e, "the export's blocks have %lld bytes, more than a page", (long long)smallest);
	n.nr_pages = min_u64((u64)size >> PAGE_SHIFT, PAGES_MAX) - 1;
	n.group_max = largest > 0 ? (u32)max_u64(1, min_u64((u64)largest >> PAGE_SHIFT, GROUP_MAX)) : GROUP_MAX;
	n.can_trim = nbd_can_trim(nbd) > 0;
	return 0;
}

static int choose_connections(struct engine *e, struct nbd_handle *nbd)
{
	u32 asked = (u32)engine_option_number(e, "connections");
	bool several = nbd_can_multi_conn(nbd) > 0;

	if (asked > 1 && !several)
		return engine_error(e,
				    "connections=%u: the server does not promise that several connections see the same "
				    "data (multi-conn); say connections=1",
				    asked);
	n.nr_connections = asked ? asked : several ? CONNECTIONS_DEFAULT : 1;
	return 0;
}

static int start_connections(struct engine *e, struct nbd_handle *nbd)
{
	n.connection[0].nbd = nbd;
	n.connection[0].ready = true;
	for (u32 i = 0; i < n.nr_connections; i++) {
		struct connection *c = &n.connection[i];

		pthread_mutex_init(&c->use, NULL);
		c->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (c->kick_fd < 0)
			return engine_error(e, "no descriptor is left");
	}
	for (u32 i = 0; i < n.nr_connections; i++) {
		if (pthread_create(&n.connection[i].thread, NULL, connection_main, &n.connection[i]))
			return engine_error(e, "no thread can be started");
	}
	return 0;
}

static int nbd_open(struct engine *e, u64 *nr_pages)
{
	u64 deadline;
	struct nbd_handle *nbd;

	n.e = e;
	n.uri = engine_option(e, "target");
	n.timeout_ns = engine_option_number(e, "timeout");
	n.bounce = calloc(BOUNCE_BUFFERS, sizeof(*n.bounce));
	for (u32 i = 0; i < RING_CELLS; i++) {
		n.request[i].next = n.free;
		n.free = &n.request[i];
	}
	make_signature();
	deadline = sync_clock_ns() + n.timeout_ns;
	nbd = nbd_connect_new(deadline);
	if (!nbd || !n.bounce)
		return engine_error(e, "cannot be reached: %s", e->ring->reason);
	if (check_export(e, nbd) || check_contents(e, nbd, deadline) || choose_connections(e, nbd)) {
		nbd_close(nbd);
		return -1;
	}
	if (write_signature(nbd, deadline))
		return engine_error(e, "cannot be written to: %s", nbd_reason());
	*nr_pages = n.nr_pages;
	return start_connections(e, nbd);
}

/* ---- the end ---- */

/* Says that nobody uses it, and that what was stored is of no use any more. */
static void leave(struct nbd_handle *nbd)
{
	enum { STEP = 1 << 16 };
	u64 deadline = sync_clock_ns() + LEAVE_NS;

	n.signature.machine[0] = '\0';
	n.signature.process = 0;
	if (write_signature(nbd, deadline))
		return;
	for (u64 at = 0; n.can_trim && at < n.nr_touched; at += STEP) {
		u64 nr = min_u64(STEP, n.nr_touched - at);

		if (wait_command(nbd, nbd_aio_trim(nbd, nr << PAGE_SHIFT, at << PAGE_SHIFT, NBD_NULL_COMPLETION, 0),
				 deadline))
			return;
	}
	nbd_aio_disconnect(nbd, 0);
	while (!nbd_aio_is_closed(nbd) && !nbd_aio_is_dead(nbd) && !is_over(deadline) && nbd_poll(nbd, POLL_MS) >= 0)
		;
}

static void nbd_leave(struct engine *e)
{
	struct nbd_handle *nbd = NULL;

	(void)e;
	atomic32_store_release(&n.stop, 1);
	for (u32 i = 0; i < n.nr_connections; i++)
		kick(&n.connection[i]);
	for (u32 i = 0; i < n.nr_connections; i++)
		pthread_join(n.connection[i].thread, NULL);
	atomic32_store_release(&n.stop, 0);
	for (u32 i = 0; i < n.nr_connections; i++) {
		if (!nbd && n.connection[i].ready && nbd_aio_is_ready(n.connection[i].nbd))
			nbd = n.connection[i].nbd;
	}
	if (nbd)
		leave(nbd);
	for (u32 i = 0; i < n.nr_connections; i++)
		nbd_close(n.connection[i].nbd);
}

static const struct engine_backend nbd_backend = {
	.name = "nbd",
	.open = nbd_open,
	.submit = nbd_submit,
	.tick = nbd_tick,
	.close = nbd_leave,
};

int main(int argc, char **argv)
{
	return engine_main(&nbd_backend, argc, argv);
}
