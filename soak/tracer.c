// SPDX-License-Identifier: GPL-2.0
/*
 * A debugger: a process that stops its parent, reads and writes its memory by ptrace(),
 * and lets it go on.
 */
#include "soak.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

struct request {
	void *at;
	long value;
	bool write;
	int err;
};

static int to_tracer[2], from_tracer[2];
static pid_t tracer;

static void serve(void)
{
	const pid_t parent = getppid();
	struct request q;
	int status;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* MTRRs and devices are there as long as what has them open. */
	for (int fd = 3; fd < 256; fd++)
		if (fd != to_tracer[0] && fd != from_tracer[1])
			close(fd);
	while (read(to_tracer[0], &q, sizeof(q)) == sizeof(q)) {
		errno = 0;
		if (ptrace(PTRACE_SEIZE, parent, 0, 0) || ptrace(PTRACE_INTERRUPT, parent, 0, 0) ||
		    waitpid(parent, &status, __WALL) != parent) {
			_exit(1);
		} else if (q.write) {
			ptrace(PTRACE_POKEDATA, parent, q.at, q.value);
		} else {
			q.value = ptrace(PTRACE_PEEKDATA, parent, q.at, 0);
		}
		q.err = errno;
		if (ptrace(PTRACE_DETACH, parent, 0, 0) ||
		    write(from_tracer[1], &q, sizeof(q)) != sizeof(q))
			_exit(1);
	}
	_exit(0);
}

/**
 * trace_word - read or write a word of this process as a debugger does
 * @at: where
 * @value: what is written, or becomes what was read
 * @write_it: which of the two
 *
 * Return: 0, or an errno; -1 if there is no debugger
 */
int trace_word(void *at, long *value, bool write_it)
{
	struct request q = { .at = at, .value = *value, .write = write_it };

	if (!tracer) {
		if (pipe2(to_tracer, O_CLOEXEC) || pipe2(from_tracer, O_CLOEXEC))
			return -1;
		tracer = fork();
		if (tracer < 0)
			return -1;
		if (!tracer) {
			/* It has nothing of what is mapped. */
			munmap_window();
			unmap_mirror();
			serve();
		}
		close(to_tracer[0]);
		close(from_tracer[1]);
	}
	if (write(to_tracer[1], &q, sizeof(q)) != sizeof(q))
		return -1;
	if (read(from_tracer[0], &q, sizeof(q)) != sizeof(q))
		return -1;
	*value = q.value;
	return q.err;
}

/* Processes that come after it have tracers of their own. */
void tracer_leave(void)
{
	if (tracer) {
		close(to_tracer[1]);
		close(from_tracer[0]);
	}
	tracer = 0;
}
