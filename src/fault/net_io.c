// SPDX-License-Identifier: MIT
/*
 * Transfers: read, write, their vectored and socket forms. What is held for one step is bounded (NET_CHUNK), so a big
 * transfer is made in steps where the descriptor allows: files go on to the end, streams may return a part, packets
 * must go in one piece. Everything lives on the handler's stack; iovecs are copied NET_IOVECS at a time.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "fault/net_internal.h"

enum {
	TRANSFER_MAX = 0x7ffff000, /* the kernel's MAX_RW_COUNT */
	KERNEL_IOV_MAX = 1024,
	MAJOR_MEM = 1, /* zero, full, urandom */
	MAJOR_TTY = 4,
	MAJOR_TTY_AUX = 5,
	MAJOR_PTS_FIRST = 136,
	MAJOR_PTS_LAST = 143,
	SPLICE_NONBLOCK = 2,
	RWF_NO_WAIT = 8,
	PACKET_MAX = 1 << 20, /* of a message that is read; the kernel's default limit of buffers is less */
	ROOM_SHARE = 8, /* one transfer takes at most this part of what may still be held */
};

enum file_kind {
	FILE_WHOLE, /* regular files: a short count means the end */
	FILE_STREAM, /* a part is a legal result */
	FILE_PACKET, /* one call, one message */
};

struct transfer {
	struct net_trap *t;
	bool to_user; /* the kernel writes to memory */
	int buf_arg; /* plain form: address, and length after it */
	int offset_arg; /* 0 for none */
	struct msghdr *msg; /* sendmsg and recvmsg: header for a step */
	uintptr_t vec; /* the program's iovecs; 0 for the plain form */
	size_t nr_vec, index, skip; /* next entry, and what of it is done */
	size_t done;
	struct iovec iov[NET_IOVECS]; /* this step */
	unsigned int nr_iov;
	size_t bytes;
	bool more; /* something is left after this step */
	bool trimmed; /* of its last entry, too */
	bool stepped; /* our header was used */
	bool wait_all; /* MSG_WAITALL */
	size_t limit; /* bytes that a step may take */
};

static enum file_kind socket_kind(int fd)
{
	int type = 0;
	u32 len = sizeof(type);

	if (sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &len))
		return FILE_PACKET;
	return type == SOCK_STREAM ? FILE_STREAM : FILE_PACKET;
}

static enum file_kind file_kind(int fd)
{
	unsigned int number;
	struct stat st;

	if (sys2(SYS_fstat, fd, &st))
		return FILE_PACKET;
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		return FILE_WHOLE;
	if (S_ISFIFO(st.st_mode))
		return FILE_STREAM; /* also with O_DIRECT: each page is a packet, and steps are of whole pages */
	if (S_ISSOCK(st.st_mode))
		return socket_kind(fd);
	if (!S_ISCHR(st.st_mode))
		return FILE_PACKET;
	number = major(st.st_rdev);
	if (number == MAJOR_MEM)
		return FILE_WHOLE;
	if (number == MAJOR_TTY || number == MAJOR_TTY_AUX || (number >= MAJOR_PTS_FIRST && number <= MAJOR_PTS_LAST))
		return FILE_STREAM;
	return FILE_PACKET;
}

/* The iovecs of the next step, from `index` and `skip` on. */
static int fetch_step(struct transfer *x)
{
	const long *args = x->t->args;
	int err;

	if (!x->vec) {
		x->nr_iov = 1;
		x->iov[0].iov_base = (void *)((uintptr_t)args[x->buf_arg] + x->skip);
		x->iov[0].iov_len = (size_t)args[x->buf_arg + 1] - x->skip;
		return 0;
	}
	x->nr_iov = (unsigned int)min_u64(x->nr_vec - x->index, NET_IOVECS);
	err = net_fetch(x->iov, x->vec + x->index * sizeof(struct iovec), x->nr_iov * sizeof(struct iovec));
	if (err)
		return err;
	if (x->skip > x->iov[0].iov_len)
		return -EFAULT; /* changed by another thread meanwhile */
	x->iov[0].iov_base = (char *)x->iov[0].iov_base + x->skip;
	x->iov[0].iov_len -= x->skip;
	return 0;
}

/* Holds one piece, or what of it the limits allow. Returns the bytes to transfer, 0 if not one page can be held. */
static long hold_piece(struct transfer *x, const struct iovec *v)
{
	size_t len = v->iov_len;

	for (;;) {
		int err = net_hold(x->t, (uintptr_t)v->iov_base, len, x->to_user ? NET_WRITE : NET_READ);

		if (!err)
			return (long)len;
		if (err != -ENOMEM)
			return err;
		if (len <= PAGE_SIZE)
			return 0;
		len = ALIGN_UP(len / 2, PAGE_SIZE);
		if (len == v->iov_len)
			len = PAGE_SIZE;
	}
}

/* Prepares and holds a step. 0, -EFAULT, -ENOMEM (nothing can be transferred), -EINVAL (left to the kernel). */
static int prepare_step(struct transfer *x)
{
	size_t limit = min_u64(TRANSFER_MAX - x->done, x->limit);
	unsigned int i;
	int err = fetch_step(x);

	if (err)
		return err;
	x->bytes = 0;
	x->trimmed = false;
	x->more = x->vec && x->index + x->nr_iov < x->nr_vec;
	for (i = 0; i < x->nr_iov; i++) {
		struct iovec *v = &x->iov[i];
		size_t want = v->iov_len;
		long got;

		if ((ssize_t)want < 0 && x->t->nr != SYS_recvfrom && x->t->nr != SYS_sendto)
			return -EINVAL;
		v->iov_len = min_u64(want, limit - x->bytes);
		got = v->iov_len ? hold_piece(x, v) : 0;
		if (got < 0)
			return (int)got;
		x->bytes += (size_t)got;
		if ((size_t)got == want)
			continue;
		x->more = true;
		if (!x->bytes) {
			v->iov_len = want;
			return -ENOMEM;
		}
		x->trimmed = got > 0;
		v->iov_len = (size_t)got;
		i += got > 0;
		break;
	}
	x->nr_iov = i;
	return 0;
}

static long perform_step(struct transfer *x)
{
	long args[6];

	memcpy(args, x->t->args, sizeof(args));
	x->stepped = true;
	if (x->msg) {
		x->msg->msg_iov = x->iov;
		x->msg->msg_iovlen = x->nr_iov;
		args[1] = (long)x->msg;
	} else if (x->vec) {
		args[1] = (long)x->iov;
		args[2] = x->nr_iov;
	} else {
		args[x->buf_arg] = (long)x->iov[0].iov_base;
		args[x->buf_arg + 1] = (long)x->iov[0].iov_len;
	}
	/* -1 stands for the file's own position in the v2 calls. */
	if (x->offset_arg && args[x->offset_arg] != -1)
		args[x->offset_arg] += (long)x->done;
	return net_syscall(x->t->nr, args);
}

static void advance(struct transfer *x, size_t bytes)
{
	x->done += bytes;
	if (!x->vec) {
		x->skip += bytes;
		return;
	}
	for (unsigned int i = 0; i < x->nr_iov && bytes >= x->iov[i].iov_len; i++) {
		if (i == x->nr_iov - 1 && x->trimmed)
			break;
		bytes -= x->iov[i].iov_len;
		x->index++;
		x->skip = 0;
	}
	x->skip += bytes;
}

static size_t transfer_bytes(const struct transfer *x)
{
	size_t sum = 0;
	struct iovec v;

	if (!x->vec)
		return (size_t)x->t->args[x->buf_arg + 1];
	for (size_t i = 0; i < x->nr_vec; i++)
		if (!net_fetch(&v, x->vec + i * sizeof(v), sizeof(v)))
			sum += v.iov_len;
	return sum;
}

/* What one step may take, so that many threads that sleep in their calls leave room for others. */
static size_t step_limit(size_t most)
{
	size_t room = net_state.ops->room();

	return room ? min_u64(most, max_u64(ALIGN_DOWN(room / ROOM_SHARE, PAGE_SIZE), PAGE_SIZE)) : 0;
}

/* A step by way of our own stack, where too much is held already. Faults are served here as everywhere. */
static long bounce_step(struct transfer *x, char buffer[PAGE_SIZE])
{
	unsigned int i = 0;
	char *user;
	size_t len;
	bool inside;
	long ret;
	int err;

	while (!x->iov[i].iov_len)
		i++;
	if (i) {
		x->index += i;
		x->skip = 0;
	}
	user = x->iov[i].iov_base;
	len = min_u64(PAGE_SIZE - ((uintptr_t)user & ~PAGE_MASK), x->iov[i].iov_len);
	inside = net_in_window((uintptr_t)user);
	err = inside ? net_state.ops->hold((uintptr_t)user, len, x->to_user) : 0;
	if (err == -EFAULT)
		return err;
	if (inside && !err)
		net_state.ops->release((uintptr_t)user, len);
	if (inside && !x->to_user)
		memcpy(buffer, user, len);
	x->iov[0] = (struct iovec){ inside ? buffer : user, len };
	x->nr_iov = 1;
	x->bytes = len;
	x->trimmed = x->more = true;
	ret = perform_step(x);
	if (inside && x->to_user && ret > 0)
		memcpy(user, buffer, min_u64((u64)ret, len));
	return ret;
}

/* The kernel is to say what is wrong with the call; it should be able to read the iovecs for that. */
static long leave_to_kernel(struct transfer *x)
{
	size_t bytes = min_u64(x->nr_vec, KERNEL_IOV_MAX) * sizeof(struct iovec);

	int err = x->vec && bytes ? net_hold(x->t, x->vec, bytes, NET_READ) : 0;

	(void)err; /* not all of it is mapped: that is for the kernel to say, too */
	return net_syscall(x->t->nr, x->t->args);
}

/* A message that is read: of a large buffer so much is held as a message can fill. */
static long read_packet(struct transfer *x)
{
	int err;

	x->index = x->skip = 0;
	x->limit = PACKET_MAX;
	err = prepare_step(x);
	if (err == -EINVAL || err == -EFAULT)
		return leave_to_kernel(x);
	if (err)
		return err;
	/* Less would cut a message off. */
	if (x->more && x->bytes < PACKET_MAX)
		return -ENOMEM;
	return perform_step(x);
}

/* Holds all of it, however much, and performs the call as it is. */
static long transfer_packet(struct transfer *x)
{
	struct net_trap *t = x->t;
	enum net_dir dir = x->to_user ? NET_WRITE : NET_READ;
	unsigned int mark = t->pushed;
	long ret;
	int err;

	if (transfer_bytes(x) > net_state.ops->room()) {
		err = -ENOMEM;
	} else if (!x->vec) {
		err = net_hold(t, (uintptr_t)t->args[x->buf_arg], (size_t)t->args[x->buf_arg + 1], dir);
	} else {
		err = net_hold(t, x->vec, x->nr_vec * sizeof(struct iovec), NET_READ);
		for (x->index = 0, x->skip = 0; !err && x->index < x->nr_vec; x->index += x->nr_iov) {
			if (fetch_step(x))
				break;
			for (unsigned int i = 0; !err && i < x->nr_iov; i++)
				err = net_hold(t, (uintptr_t)x->iov[i].iov_base, x->iov[i].iov_len, dir);
		}
	}
	if (err == -ENOMEM)
		net_trap_release_to(t, mark);
	if (err == -ENOMEM && x->to_user)
		return read_packet(x);
	if (err && err != -ENOMEM)
		return err;
	/* One that is too large to be held is most likely too large for the kernel as well. */
	ret = net_syscall(t->nr, t->args);
	return err && ret == -EFAULT ? err : ret;
}

/* Steps until the end, an error, or a short count; after a first step streams that are read return what there is. */
static long transfer_steps(struct transfer *x, enum file_kind kind, unsigned int mark, int err)
{
	char buffer[PAGE_SIZE];

	for (;;) {
		long ret = err ? bounce_step(x, buffer) : perform_step(x);

		net_trap_release_to(x->t, mark);
		if (ret <= 0)
			return x->done ? (long)x->done : ret;
		advance(x, (size_t)ret);
		if ((size_t)ret < x->bytes || !x->more || x->done >= TRANSFER_MAX)
			return (long)x->done;
		if (x->to_user && !x->wait_all && (kind != FILE_WHOLE || x->msg))
			return (long)x->done;
		if (x->msg) { /* control data goes with the first step */
			x->msg->msg_control = NULL;
			x->msg->msg_controllen = 0;
		}
		x->limit = step_limit(NET_CHUNK);
		err = prepare_step(x);
		if (err && err != -ENOMEM) {
			net_trap_release_to(x->t, mark);
			return (long)x->done;
		}
		if (!err && !x->bytes)
			return (long)x->done;
	}
}

/* Appending is done in one piece if there is room: another writer's data must not come between. */
static bool appends(const struct transfer *x)
{
	return !x->to_user && (sys2(SYS_fcntl, x->t->args[0], F_GETFL) & O_APPEND);
}

static bool goes_in_one_piece(const struct transfer *x, enum file_kind kind)
{
	if (kind == FILE_WHOLE && x->buf_arg && appends(x))
		return transfer_bytes(x) <= net_state.ops->room() / 2;
	return kind == FILE_PACKET;
}

/* The other arguments are held already. */
static long transfer_run(struct transfer *x, bool one_piece)
{
	struct net_trap *t = x->t;
	unsigned int mark = t->pushed;
	enum file_kind kind;
	int err;

	if (x->nr_vec > KERNEL_IOV_MAX)
		return net_syscall(t->nr, t->args);
	if (one_piece)
		return transfer_packet(x);
	x->limit = step_limit(NET_CHUNK);
	err = prepare_step(x);
	if (err == -EINVAL || err == -EFAULT) {
		net_trap_release_to(t, mark);
		return leave_to_kernel(x);
	}
	if (!err && !x->more)
		return x->msg ? net_syscall(t->nr, t->args) : perform_step(x);
	kind = x->buf_arg == 0 ? FILE_WHOLE /* getrandom */ : file_kind((int)t->args[0]);
	if (!goes_in_one_piece(x, kind))
		return transfer_steps(x, kind, mark, err);
	net_trap_release_to(t, mark);
	return transfer_packet(x);
}

static long do_plain(struct net_trap *t, bool to_user, int offset_arg)
{
	struct transfer x = { .t = t, .to_user = to_user, .buf_arg = 1, .offset_arg = offset_arg };
	int err = net_hold_args(t);

	x.wait_all = t->nr == SYS_recvfrom && (t->args[3] & MSG_WAITALL);
	/* A second look would find the same bytes. */
	return err ? err : transfer_run(&x, x.wait_all && (t->args[3] & MSG_PEEK));
}

long net_do_read(struct net_trap *t)
{
	return do_plain(t, true, 0);
}

long net_do_write(struct net_trap *t)
{
	return do_plain(t, false, 0);
}

long net_do_pread(struct net_trap *t)
{
	return do_plain(t, true, 3);
}

long net_do_pwrite(struct net_trap *t)
{
	return do_plain(t, false, 3);
}

long net_do_getrandom(struct net_trap *t)
{
	struct transfer x = { .t = t, .to_user = true, .buf_arg = 0 };

	return transfer_run(&x, false);
}

static long do_vector(struct net_trap *t, bool to_user, int offset_arg)
{
	struct transfer x = {
		.t = t,
		.to_user = to_user,
		.buf_arg = 1,
		.offset_arg = offset_arg,
		.vec = (uintptr_t)t->args[1],
		.nr_vec = (size_t)t->args[2],
	};

	if (!x.vec || !x.nr_vec)
		return net_syscall(t->nr, t->args);
	return transfer_run(&x, false);
}

long net_do_readv(struct net_trap *t)
{
	return do_vector(t, true, 0);
}

long net_do_writev(struct net_trap *t)
{
	return do_vector(t, false, 0);
}

long net_do_preadv(struct net_trap *t)
{
	return do_vector(t, true, 3);
}

long net_do_pwritev(struct net_trap *t)
{
	return do_vector(t, false, 3);
}

/*
 * A spliced page stays in the pipe after the call, while reclaim may give its frame to another page. So the bytes are
 * copied, which a program cannot tell unless it changes them too early.
 */
long net_do_vmsplice(struct net_trap *t)
{
	long mode = sys3(SYS_fcntl, t->args[0], F_GETFL, 0);
	bool to_user = (mode & O_ACCMODE) == O_RDONLY, nonblock = t->args[3] & SPLICE_NONBLOCK;
	struct stat st;

	if (mode < 0)
		return mode;
	if (sys2(SYS_fstat, t->args[0], &st) || !S_ISFIFO(st.st_mode))
		return -EBADF;
	t->nr = to_user ? SYS_preadv2 : SYS_pwritev2;
	t->args[3] = -1;
	t->args[4] = 0;
	t->args[5] = nonblock ? RWF_NO_WAIT : 0;
	return do_vector(t, to_user, 3);
}

/* Copies and holds iovecs of one side; the result is how many. */
static long hold_side(struct net_trap *t, int arg, struct iovec *iov, bool hold, bool write)
{
	size_t nr = min_u64((size_t)t->args[arg + 1], NET_IOVECS);
	int err = nr ? net_fetch(iov, (uintptr_t)t->args[arg], nr * sizeof(*iov)) : 0;

	for (size_t i = 0; !err && hold && i < nr; i++)
		err = net_hold(t, (uintptr_t)iov[i].iov_base, iov[i].iov_len, write ? NET_WRITE : NET_READ);
	t->args[arg] = (long)iov;
	t->args[arg + 1] = (long)nr;
	return err;
}

/* A part is a legal result, so more than NET_IOVECS entries need no second step. */
long net_do_process_vm(struct net_trap *t)
{
	struct iovec local[NET_IOVECS], remote[NET_IOVECS];
	bool reads = t->nr == SYS_process_vm_readv;
	bool self = t->args[0] == sys0(SYS_getpid);
	long err;

	if ((size_t)t->args[2] > KERNEL_IOV_MAX || (size_t)t->args[4] > KERNEL_IOV_MAX)
		return net_syscall(t->nr, t->args);
	err = hold_side(t, 1, local, true, reads);
	if (!err)
		err = hold_side(t, 3, remote, self, !reads);
	return err ? err : net_syscall(t->nr, t->args);
}

/* All that a message points to but its data. */
static int hold_header(struct net_trap *t, const struct msghdr *h, bool to_user)
{
	enum net_dir dir = to_user ? NET_WRITE : NET_READ;
	int err = net_hold(t, (uintptr_t)h->msg_name, h->msg_namelen, dir);

	if (!err)
		err = net_hold(t, (uintptr_t)h->msg_control, h->msg_controllen, dir);
	if (!err && h->msg_iovlen <= KERNEL_IOV_MAX)
		err = net_hold(t, (uintptr_t)h->msg_iov, h->msg_iovlen * sizeof(struct iovec), NET_READ);
	return err;
}

/* The kernel's answers in the header of a step, for the program's own. */
static void store_header(uintptr_t addr, const struct msghdr *h)
{
	int err = net_store(addr + offsetof(struct msghdr, msg_namelen), &h->msg_namelen, sizeof(h->msg_namelen));

	if (!err)
		err = net_store(addr + offsetof(struct msghdr, msg_controllen), &h->msg_controllen,
				sizeof(h->msg_controllen));
	if (!err)
		err = net_store(addr + offsetof(struct msghdr, msg_flags), &h->msg_flags, sizeof(h->msg_flags));
	if (err)
		net_count_efault(SYS_recvmsg);
}

static long do_message(struct net_trap *t, bool to_user)
{
	uintptr_t addr = (uintptr_t)t->args[1];
	struct transfer x = { .t = t, .to_user = to_user, .buf_arg = 1 };
	struct msghdr header;
	long ret;
	int err = net_fetch(&header, addr, sizeof(header));

	if (!err)
		err = net_hold(t, addr, sizeof(header), to_user ? NET_EITHER : NET_READ);
	if (!err)
		err = hold_header(t, &header, to_user);
	if (err)
		return err == -EFAULT ? net_syscall(t->nr, t->args) : err;
	if (!header.msg_iov || !header.msg_iovlen)
		return net_syscall(t->nr, t->args);
	x.vec = (uintptr_t)header.msg_iov;
	x.nr_vec = header.msg_iovlen;
	x.msg = &header;
	header.msg_flags = 0;
	x.wait_all = to_user && (t->args[2] & MSG_WAITALL);
	/* Descriptors that come with a later step would be lost. */
	ret = transfer_run(&x, x.wait_all && ((t->args[2] & MSG_PEEK) || header.msg_controllen));
	/* Only a step uses our header; its flags and lengths are then the answer. */
	if (to_user && x.stepped && ret >= 0)
		store_header(addr, &header);
	return ret;
}

long net_do_sendmsg(struct net_trap *t)
{
	return do_message(t, false);
}

long net_do_recvmsg(struct net_trap *t)
{
	return do_message(t, true);
}

/* Holds all of one message, in place. */
static int hold_message(struct net_trap *t, uintptr_t addr, bool to_user, size_t *bytes)
{
	struct msghdr header;
	struct iovec v;
	int err = net_fetch(&header, addr, sizeof(header));

	if (!err)
		err = hold_header(t, &header, to_user);
	for (size_t i = 0; !err && i < header.msg_iovlen && i < KERNEL_IOV_MAX; i++) {
		if (net_fetch(&v, (uintptr_t)(header.msg_iov + i), sizeof(v)))
			break;
		*bytes += v.iov_len;
		err = net_hold(t, (uintptr_t)v.iov_base, v.iov_len, to_user ? NET_WRITE : NET_READ);
	}
	return err;
}

/* As many messages as the limits allow, at least one. Returns how many are held, or -errno. */
static long hold_messages(struct net_trap *t, uintptr_t vec, unsigned int nr, bool to_user)
{
	unsigned int i, mark;
	size_t bytes = 0;
	int err;

	for (i = 0; i < nr && bytes < NET_CHUNK && t->pushed < NET_HOLDS / 2; i++) {
		uintptr_t addr = vec + i * sizeof(struct mmsghdr);

		mark = t->pushed;
		err = net_hold(t, addr, sizeof(struct mmsghdr), NET_EITHER);
		if (!err)
			err = hold_message(t, addr, to_user, &bytes);
		if (err == -EFAULT)
			return i + 1; /* the kernel finds out */
		if (err) {
			net_trap_release_to(t, mark);
			return i ? (long)i : err;
		}
	}
	return i;
}

static long do_messages(struct net_trap *t, bool to_user)
{
	uintptr_t vec = (uintptr_t)t->args[1];
	unsigned int nr = (unsigned int)t->args[2], mark;
	unsigned int done = 0;
	int err = net_hold_args(t);

	if (!to_user && nr > KERNEL_IOV_MAX)
		nr = KERNEL_IOV_MAX;
	mark = t->pushed;
	do {
		long part = err ? err : hold_messages(t, vec + done * sizeof(struct mmsghdr), nr - done, to_user);
		long ret = part;

		if (part >= 0) {
			long flags = t->args[3];

			if (done && (flags & MSG_WAITFORONE))
				flags |= MSG_DONTWAIT;
			ret = sys5(t->nr, t->args[0], vec + done * sizeof(struct mmsghdr), part, flags, t->args[4]);
		}
		net_trap_release_to(t, mark);
		if (ret <= 0)
			return done ? (long)done : ret;
		done += (unsigned int)ret;
		if (ret < part)
			break;
	} while (done < nr);
	return done;
}

long net_do_sendmmsg(struct net_trap *t)
{
	return do_messages(t, false);
}

long net_do_recvmmsg(struct net_trap *t)
{
	return do_messages(t, true);
}
