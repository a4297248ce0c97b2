// SPDX-License-Identifier: MIT
#include "cli/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/wait.h"

static const int forwarded_signals[] = { SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH };
static const int ignored_signals[] = { SIGINT, SIGQUIT };

/* Set while the forwarded signals are blocked, and constant while they are not. */
static pid_t child;

/* What the terminal sends goes to the whole process group, the child has it already. */
static void forward_signal(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)context;
	if (info->si_code != SI_KERNEL && info->si_pid != child)
		kill(child, sig);
	errno = saved;
}

static void block_signals(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(forwarded_signals); i++)
		sigaddset(&set, forwarded_signals[i]);
	for (size_t i = 0; i < ARRAY_SIZE(ignored_signals); i++)
		sigaddset(&set, ignored_signals[i]);
	sigprocmask(SIG_BLOCK, &set, old);
}

/* A signal that is ignored already (nohup) stays so: the child ignores it too. */
static void install_handlers(void)
{
	struct sigaction forward = { .sa_sigaction = forward_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigaction old;

	for (size_t i = 0; i < ARRAY_SIZE(ignored_signals); i++)
		signal(ignored_signals[i], SIG_IGN);
	for (size_t i = 0; i < ARRAY_SIZE(forwarded_signals); i++) {
		if (sigaction(forwarded_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(forwarded_signals[i], &forward, NULL);
	}
}

struct launch {
	const char *path;
	char **argv;
	int (*prepare)(void *ctx);
	void *ctx;
	int error_fd; /* the child writes its errno here; exec closes it */
	sigset_t mask; /* as it was found */
	struct sigaction sigchld;
};

static _Noreturn void child_exec(const struct launch *launch)
{
	int error = -launch->prepare(launch->ctx);

	if (!error) {
		sigaction(SIGCHLD, &launch->sigchld, NULL);
		sigprocmask(SIG_SETMASK, &launch->mask, NULL);
		execvp(launch->path, launch->argv);
		error = errno;
	}
	while (write(launch->error_fd, &error, sizeof(error)) < 0 && errno == EINTR)
		;
	_exit(127);
}

/* 0 once the exec has happened, otherwise the errno that prevented it. */
static int read_exec_error(int fd)
{
	int error = 0;
	ssize_t n;

	do
		n = read(fd, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	close(fd);
	return n == sizeof(error) ? error : 0;
}

/* The child stays a zombie until no signal can be forwarded to it, so its pid cannot be another's. */
static int wait_for_child(struct supervised *out)
{
	siginfo_t info;
	sigset_t mask;

	while (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	block_signals(&mask);
	return wait4(child, &out->status, 0, &out->usage) < 0 ? -errno : 0;
}

int supervise_run(const char *path, char **argv, int (*prepare)(void *ctx), void *ctx, struct supervised *out)
{
	/* An inherited "ignore" of SIGCHLD would have the kernel reap the child. */
	struct sigaction sigchld = { .sa_handler = SIG_DFL };
	struct launch launch = { .path = path, .argv = argv, .prepare = prepare, .ctx = ctx };
	int pipe_fd[2], rc;
	u64 start_ns;

	*out = (struct supervised){ 0 };
	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -errno;
	launch.error_fd = pipe_fd[1];
	sigaction(SIGCHLD, &sigchld, &launch.sigchld);
	block_signals(&launch.mask);
	start_ns = sync_clock_ns();
	child = fork();
	if (child == 0)
		child_exec(&launch);
	rc = child < 0 ? -errno : 0;
	close(pipe_fd[1]);
	if (rc == 0)
		install_handlers();
	sigprocmask(SIG_SETMASK, &launch.mask, NULL);
	out->exec_error = read_exec_error(pipe_fd[0]);
	if (rc == 0)
		rc = wait_for_child(out);
	out->wall_ns = sync_clock_ns() - start_ns;
	return rc;
}

_Noreturn void supervise_end(int status)
{
	sigset_t set;
	int sig;

	if (WIFEXITED(status))
		exit(WEXITSTATUS(status));
	sig = WTERMSIG(status);
	/* RLIMIT_CORE would not stop a core_pattern that is a pipe. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	kill(getpid(), sig);
	exit(128 + sig);
}
