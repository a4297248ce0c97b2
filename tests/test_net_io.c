// SPDX-License-Identifier: MIT
/*
 * The net and transfers: in one piece and in steps, to files, pipes, streams and packets, with everything that a call
 * can point to in the window. How the window is faked: net_fake.h.
 */
#include "net_fake.h"

static void test_read_write(void)
{
	char *buf;
	int fds[2], file = temp_file();

	begin();
	buf = take_string("hello, kernel");
	expect_eq(pipe(fds), 0);
	expect_eq(write(fds[1], buf, 13), 13);
	buf = take(8192);
	expect_eq(read(fds[0], buf + 4090, 4000), 13);
	expect(holds_string(buf + 4090, "hello, kernel"));
	expect_eq(pwrite(file, buf + 4090, 13, 5), 13);
	expect_eq(pread(file, buf, 100, 0), 18);
	expect(holds_string(buf + 5, "hello, kernel"));
	expect_eq(lseek(file, 0, SEEK_CUR), 0);
	expect_eq(write(fds[1], buf, 0), 0);
	errno = 0;
	expect_eq(read(-1, buf, 10), -1);
	expect_eq(errno, EBADF);
	close(fds[0]);
	close(fds[1]);
	close(file);
	finish(0);
}

/* Gathers and scatters with the array in the window and on the stack; 200 entries take several steps. */
static void vector_once(bool array_in_window, int nr)
{
	struct iovec iov[200], *vec = iov;
	int file = temp_file();
	char *data = take((size_t)nr * 64), *back = take((size_t)nr * 64), expected[200 * 64], found[200 * 64];

	fill_pattern(expected, (size_t)nr * 64, 3);
	put(data, expected, (size_t)nr * 64);
	for (int i = 0; i < nr; i++)
		iov[i] = (struct iovec){ data + i * 64, 64 };
	vec = array_in_window ? take_copy(iov, sizeof(iov)) : iov;
	expect_eq(writev(file, vec, nr), nr * 64);
	expect_eq(pwritev(file, vec, nr, nr * 64), nr * 64);
	expect_eq(pwritev2(file, vec, nr, -1, 0), nr * 64);
	expect_eq(lseek(file, 0, SEEK_CUR), nr * 128);
	for (int i = 0; i < nr; i++)
		iov[i].iov_base = back + i * 64;
	vec = array_in_window ? take_copy(iov, sizeof(iov)) : iov;
	lseek(file, 0, SEEK_SET);
	expect_eq(readv(file, vec, nr), nr * 64);
	get(found, back, (size_t)nr * 64);
	expect(!memcmp(found, expected, (size_t)nr * 64));
	put(back, (char[64]){ 0 }, 64);
	expect_eq(preadv(file, vec, nr, nr * 64), nr * 64);
	expect_eq(preadv2(file, vec, nr, 0, 0), nr * 64);
	get(found, back, (size_t)nr * 64);
	expect(!memcmp(found, expected, (size_t)nr * 64));
	close(file);
}

static void test_vectors(void)
{
	begin();
	vector_once(false, 3);
	vector_once(true, 3);
	vector_once(false, 200);
	vector_once(true, 200);
	errno = 0;
	expect_eq(syscall(SYS_writev, 1, take(16), -1), -1);
	expect_eq(errno, EINVAL);
	expect_eq(syscall(SYS_writev, 1, 8, 1), -1);
	expect_eq(errno, EFAULT);
	finish(1);
}

union control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr header;
};

static void set_control(struct msghdr *msg, void *at, int fd)
{
	union control control = { 0 };

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	put(at, &control, sizeof(control));
	msg->msg_control = at;
	msg->msg_controllen = sizeof(control);
}

/* A message with everything in the window: header, name, iovecs, data, control with a descriptor. */
static void test_messages(void)
{
	int fds[2], sent = temp_file();
	union control control = { 0 };
	struct iovec iov[2];
	struct msghdr msg = { 0 }, *at;

	begin();
	expect_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	iov[0] = (struct iovec){ take_string("one "), 4 };
	iov[1] = (struct iovec){ take_string("two"), 3 };
	set_control(&msg, take(4096), sent);
	msg.msg_iov = take_copy(iov, sizeof(iov));
	msg.msg_iovlen = 2;
	expect_eq(sendmsg(fds[0], take_copy(&msg, sizeof(msg)), 0), 7);
	iov[0] = (struct iovec){ take(100), 5 };
	iov[1] = (struct iovec){ take(100), 50 };
	msg.msg_iov = take_copy(iov, sizeof(iov));
	msg.msg_control = take_copy(&control, sizeof(control));
	at = take_copy(&msg, sizeof(msg));
	expect_eq(recvmsg(fds[1], at, 0), 7);
	expect(holds_string(iov[0].iov_base, "one t"));
	expect(holds_string(iov[1].iov_base, "wo"));
	get(&msg, at, sizeof(msg));
	get(&control, msg.msg_control, sizeof(control));
	expect_eq(control.header.cmsg_type, SCM_RIGHTS);
	expect_eq(msg.msg_controllen, CMSG_SPACE(sizeof(int)));
	memcpy(&sent, CMSG_DATA(&control.header), sizeof(sent));
	expect_eq(fcntl(sent, F_GETFD), 0);
	close(fds[0]);
	close(fds[1]);
	finish(0);
}

static int received_fds;

static void *receive_main(void *arg)
{
	static char data[65536], control[1024];
	struct iovec iov = { data, sizeof(data) };
	int fd = *(int *)arg;

	for (;;) {
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control };

		msg.msg_controllen = sizeof(control);
		if (recvmsg(fd, &msg, 0) <= 0)
			return NULL;
		received_fds += msg.msg_controllen > 0;
	}
}

/* A descriptor goes with the first step of a big message, and only once. */
static void test_big_message(void)
{
	enum { LEN = 2000000 };
	struct iovec iov = { NULL, LEN };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	pthread_t thread;
	int fds[2];

	begin();
	iov.iov_base = take(LEN);
	set_control(&msg, take(4096), 0);
	expect_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pthread_create(&thread, NULL, receive_main, &fds[1]);
	expect_eq(sendmsg(fds[0], take_copy(&msg, sizeof(msg)), 0), LEN);
	close(fds[0]);
	pthread_join(thread, NULL);
	expect_eq(received_fds, 1);
	close(fds[1]);
	finish(0);
}

static void test_many_messages(void)
{
	enum { NR = 150 };
	struct mmsghdr m[NR] = { 0 }, *at;
	struct iovec iov[NR];
	int fds[2];
	char *data, byte;

	begin();
	data = take(NR * 4096);
	expect_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
	for (int i = 0; i < NR; i++) {
		byte = (char)i;
		put(data + i * 4096, &byte, 1);
		iov[i] = (struct iovec){ data + i * 4096, 1 };
	}
	struct iovec *vec = take_copy(iov, sizeof(iov));

	for (int i = 0; i < NR; i++) {
		m[i].msg_hdr.msg_iov = &vec[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	at = take_copy(m, sizeof(m));
	/* The socket's queue takes a few at a time: 10 by default. */
	for (int done = 0; done < NR;) {
		int sent = sendmmsg(fds[0], at + done, (unsigned int)(NR - done), MSG_DONTWAIT);
		int got;

		expect(sent > 0);
		got = recvmmsg(fds[1], at + done, (unsigned int)(NR - done), MSG_WAITFORONE,
			       take_copy(&(struct timespec){ .tv_sec = 5 }, sizeof(struct timespec)));
		expect_eq(got, sent);
		done += sent;
	}
	for (int i = 0; i < NR; i++) {
		get(&byte, data + i * 4096, 1);
		expect_eq(byte, (char)i);
	}
	get(m, at, sizeof(m));
	expect_eq(m[NR - 1].msg_len, 1);
	close(fds[0]);
	close(fds[1]);
	finish(0);
}

enum { BIG = (3 << 20) + 123 };

static void test_chunks_of_file(void)
{
	char *own = malloc(BIG), *back = malloc(BIG), *at;
	struct iovec iov[2];
	int file = temp_file();

	begin();
	at = take(BIG);
	fill_pattern(own, BIG, 11);
	put(at, own, BIG);
	fake.held_max = 0;
	expect_eq(write(file, at, BIG), BIG);
	expect_eq(pwrite(file, at, BIG, BIG), BIG);
	put(at, back, BIG);
	fake.held_max = 0;
	expect_eq(pread(file, at, BIG, BIG), BIG);
	expect(fake.held_max <= 66);
	get(back, at, BIG);
	expect(!memcmp(own, back, BIG));
	fake.held_max = 0;
	iov[0] = (struct iovec){ at, 1000001 };
	iov[1] = (struct iovec){ at + 1000001, BIG - 1000001 };
	expect_eq(pwritev(file, iov, 2, 1), BIG);
	expect_eq(preadv(file, take_copy(iov, sizeof(iov)), 2, 1), BIG);
	expect(fake.held_max <= 70);
	get(back, at, BIG);
	expect(!memcmp(own, back, BIG));
	expect_eq(pread(file, at, BIG, BIG), BIG);
	expect_eq(ftruncate(file, 700000), 0);
	expect_eq(pread(file, at, BIG, 1), 699999);
	close(file);
	file = open("/dev/zero", O_RDONLY);
	expect_eq(read(file, at, BIG), BIG);
	expect_eq(syscall(SYS_getrandom, at, BIG, 0), BIG);
	expect_eq(syscall(SYS_read, file, at, -1L), -1);
	expect_eq(errno, EFAULT);
	close(file);
	free(own);
	free(back);
	finish(1);
}

struct drain {
	int fd;
	size_t bytes;
	u64 sum;
};

static u64 sum_of(const char *p, size_t len)
{
	u64 sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = sum * 31 + (u8)p[i];
	return sum;
}

/* Reads all to the end, into ordinary memory. */
static void *drain_main(void *arg)
{
	struct drain *d = arg;
	char buf[10000];
	ssize_t got;

	while ((got = read(d->fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < got; i++)
			d->sum = d->sum * 31 + (u8)buf[i];
		d->bytes += (size_t)got;
	}
	return NULL;
}

static void stream_once(int out, int in, char *at, const char *own)
{
	struct drain d = { .fd = in };
	struct iovec iov[3] = { { at, 5 }, { at + 5, 600000 }, { at + 600005, BIG - 600005 } };
	pthread_t thread;

	pthread_create(&thread, NULL, drain_main, &d);
	expect_eq(write(out, at, BIG), BIG);
	expect_eq(writev(out, iov, 3), BIG);
	close(out);
	pthread_join(thread, NULL);
	expect_eq(d.bytes, 2 * (size_t)BIG);
	u64 once = sum_of(own, BIG), twice = once;

	for (size_t i = 0; i < BIG; i++)
		twice = twice * 31 + (u8)own[i];
	expect_eq(d.sum, twice);
	close(in);
}

static void test_chunks_of_streams(void)
{
	char *own = malloc(BIG), *at;
	struct iovec iov = { NULL, BIG };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct drain d;
	pthread_t thread;
	int fds[2];

	begin();
	at = take(BIG);
	fill_pattern(own, BIG, 5);
	put(at, own, BIG);
	fake.held_max = 0;
	expect_eq(pipe(fds), 0);
	stream_once(fds[1], fds[0], at, own);
	expect_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	stream_once(fds[1], fds[0], at, own);
	expect_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	d = (struct drain){ .fd = fds[0] };
	pthread_create(&thread, NULL, drain_main, &d);
	iov.iov_base = at;
	expect_eq(sendmsg(fds[1], &msg, 0), BIG);
	expect_eq(send(fds[1], at, BIG, 0), BIG);
	close(fds[1]);
	pthread_join(thread, NULL);
	expect_eq(d.bytes, 2 * (size_t)BIG);
	close(fds[0]);
	expect(fake.held_max <= 70);
	free(own);
	finish(0);
}

static void *feed_main(void *arg)
{
	static char zeros[BIG];
	int fd = *(int *)arg;

	for (size_t done = 0; done < BIG;) {
		ssize_t put_now = write(fd, zeros + done, BIG - done);

		expect(put_now > 0);
		done += (size_t)put_now;
	}
	return NULL;
}

/* A big read of a stream returns what there is; with MSG_WAITALL it waits for all. */
static void test_stream_reads(void)
{
	char *at, *control;
	struct iovec iov = { NULL, BIG };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	pthread_t thread;
	int fds[2];

	begin();
	at = take(BIG);
	control = take(4096);
	expect_eq(pipe(fds), 0);
	expect_eq(write(fds[1], "12345", 5), 5);
	expect_eq(read(fds[0], at, BIG), 5);
	close(fds[0]);
	close(fds[1]);
	expect_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pthread_create(&thread, NULL, feed_main, &fds[1]);
	expect_eq(recv(fds[0], at, BIG, MSG_WAITALL), BIG);
	pthread_join(thread, NULL);
	expect_eq(write(fds[1], "12345", 5), 5);
	expect_eq(recv(fds[0], at, BIG, 0), 5);
	expect_eq(write(fds[1], "12345", 5), 5);
	iov.iov_base = at;
	msg.msg_control = control;
	msg.msg_controllen = 4096;
	struct msghdr *msg_at = take_copy(&msg, sizeof(msg));

	expect_eq(recvmsg(fds[0], msg_at, 0), 5);
	get(&msg, msg_at, sizeof(msg));
	expect_eq(msg.msg_controllen, 0);
	expect_eq(msg.msg_iovlen, 1);
	close(fds[1]);
	expect_eq(recvmsg(fds[0], msg_at, 0), 0);
	close(fds[0]);
	finish(0);
}

static void test_datagrams(void)
{
	enum { LEN = 300000 };
	char *own = malloc(LEN), *back = malloc(LEN), *at, *to;
	int fds[2], bytes = 212992;
	struct iovec iov[2];

	begin();
	at = take(LEN);
	to = take(BIG);
	fill_pattern(own, LEN, 9);
	put(at, own, LEN);
	expect_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
	expect_eq(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
	expect_eq(write(fds[0], at, LEN), LEN);
	expect_eq(read(fds[1], to, BIG), LEN);
	get(back, to, LEN);
	expect(!memcmp(own, back, LEN));
	iov[0] = (struct iovec){ at, 1 };
	iov[1] = (struct iovec){ at + 1, LEN - 1 };
	expect_eq(writev(fds[0], take_copy(iov, sizeof(iov)), 2), LEN);
	expect_eq(recv(fds[1], to, BIG, 0), LEN);
	get(back, to, LEN);
	expect(!memcmp(own, back, LEN));
	fake.limit = 60;
	expect_eq(write(fds[0], at, LEN), -1);
	expect_eq(errno, ENOMEM);
	fake.limit = 0;
	close(fds[0]);
	close(fds[1]);
	free(own);
	free(back);
	finish(0);
}

/* Little may be held: transfers go on in smaller steps. */
static void test_hold_limit(void)
{
	enum { LEN = 1000000 };
	char *own = malloc(LEN), *back = malloc(LEN), *at;
	struct iovec iov[3];
	int file = temp_file();

	begin();
	at = take(LEN);
	fill_pattern(own, LEN, 21);
	put(at, own, LEN);
	fake.limit = 5;
	iov[0] = (struct iovec){ at, 10 };
	iov[1] = (struct iovec){ at + 10, 20000 };
	iov[2] = (struct iovec){ at + 20010, LEN - 20010 };
	expect_eq(write(file, at, LEN), LEN);
	expect_eq(pwritev(file, iov, 3, LEN), LEN);
	expect_eq(pread(file, at, LEN, 0), LEN);
	expect_eq(preadv(file, iov, 3, LEN), LEN);
	expect_eq(pread(file, back, LEN, LEN), LEN);
	expect(!memcmp(own, back, LEN));
	fake.limit = 0;
	get(back, at, LEN);
	expect(!memcmp(own, back, LEN));
	close(file);
	free(own);
	free(back);
	finish(0);
}

static void test_splice_and_peers(void)
{
	char *at = take_string("payload"), *to, own[8] = "own";
	struct iovec local, remote;
	int fds[2];

	begin();
	at = take_string("payload");
	to = take(4096);
	expect_eq(pipe(fds), 0);
	local = (struct iovec){ at, 7 };
	expect_eq(vmsplice(fds[1], &local, 1, 0), 7);
	local.iov_base = to;
	expect_eq(vmsplice(fds[0], take_copy(&local, sizeof(local)), 1, 0), 7);
	expect(holds_string(to, "payload"));
	remote = (struct iovec){ at, 7 };
	local = (struct iovec){ to + 100, 7 };
	expect_eq(process_vm_readv(getpid(), &local, 1, take_copy(&remote, sizeof(remote)), 1, 0), 7);
	expect(holds_string(to + 100, "payload"));
	local = (struct iovec){ own, 3 };
	expect_eq(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), 3);
	expect(holds_string(at, "ownload"));
	close(fds[0]);
	close(fds[1]);
	finish(0);
}

int main(void)
{
	fake_arm();
	run_test(test_read_write);
	run_test(test_vectors);
	run_test(test_messages);
	run_test(test_big_message);
	run_test(test_many_messages);
	run_test(test_chunks_of_file);
	run_test(test_chunks_of_streams);
	run_test(test_stream_reads);
	run_test(test_datagrams);
	run_test(test_hold_limit);
	run_test(test_splice_and_peers);
	return 0;
}
