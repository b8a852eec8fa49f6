/*
 * master_command.c
 *	  Runs keyrot.master_key_command, and reads the master keys that it prints.
 *
 * Owns the child process, its pipe and its output.  master_cache.c and master.c decide when it is run, and
 * which callers receive its keys and failures.
 *
 * Why not popen(), with OpenPipeStream()? Its buffer is neither locked nor wiped, a command that hangs could
 * neither be cancelled nor terminated with all its child processes, and it would inherit the session's files,
 * including the client's connection.
 *
 * The command's standard error is that of the server, that is, the server log.  Callers do not receive it: it
 * is not meant for them, and may contain anything.
 *
 * All interrupts are processed while the command runs: recovery conflicts on a standby, for example, set no
 * flag that could be tested.  Whether they raise an error or end the session, clean_up() is called first: it
 * terminates the command, reaps it, closes the pipe and wipes what was read.  Nothing else here throws before
 * that.
 */
#include "keys/master_command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef HAVE_SYS_PRCTL_H
#include <sys/prctl.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/wait_event.h"

#include "base/settings.h"
#include "crypto/arena.h"

#define OUTPUT_BYTES MASTER_TEXT_MAX_BYTES	/* as many are too many */
#define TURN_MS 100				/* a signal that comes just before poll() waits at most so long */
#define LEAVE_MS 200			/* from SIGTERM to SIGKILL */
#define REAP_MS 5000			/* what can't be killed by then is left to init */

typedef enum Ending
{
	NOT_STARTED,
	ENDED,
	TOO_SLOW,
	PIPE_LEFT_OPEN,
	TOO_LONG
} Ending;

/* The current run; a session never has more than one. */
typedef struct Run
{
	pid_t		pid;			/* the command's and its process group's; 0: none, or reaped */
	int			status;			/* as of waitpid(); -1: not known */
	int			output_pipe;	/* our end; -1: none, or at its end */
	char	   *output;			/* in locked memory */
	size_t		output_length;
	instr_time	begun;
} Run;

static Run current = {.output_pipe = -1};

static const char hint_run[] =
"The server log contains what the command wrote to its standard error.";
static const char hint_format[] =
"It must print one key of 64 hex digits per line, the current key first, and nothing else on its standard output.";


/* The child's side, between fork and exec: only async-signal-safe functions */

static void
close_other_files(void)
{
	const int	first = STDERR_FILENO + 1;
	const long	no_server_has_more = 65536;
	long		limit = sysconf(_SC_OPEN_MAX);

#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned int) first, ~0U, 0U) == 0)
		return;
#endif
	for (int file = first; file < Min(limit, no_server_has_more); file++)
		(void) close(file);
}

static void
reset_signals(void)
{
	sigset_t	none;

	for (int number = 1; number < NSIG; number++)
		(void) signal(number, SIG_DFL);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
}

/* If the session is killed, no process is left to terminate its command. */
static void
end_with_parent(void)
{
#if defined(HAVE_SYS_PRCTL_H) && defined(PR_SET_PDEATHSIG)
	(void) prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != MyProcPid)
		_exit(1);
#endif
}

static void
become_command(const char *command, int output)
{
	int			nothing = open("/dev/null", O_RDONLY);

	(void) setpgid(0, 0);
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0)
		_exit(126);
	close_other_files();
	reset_signals();
	end_with_parent();
	(void) execl("/bin/sh", "sh", "-c", command, (char *) NULL);
	_exit(127);
}


/* The session's side */

/* Opens a pipe whose reading end does not block; sets errno on failure. */
static bool
open_pipe(int *ours, int *theirs)
{
	int			ends[2];

	if (pipe(ends) != 0)
		return false;
	*ours = ends[0];
	*theirs = ends[1];
	return fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
}

static void
close_pipe(int *end)
{
	if (*end >= 0)
		close(*end);
	*end = -1;
}

/*
 * Starts the command; sets errno on failure.  Signals are blocked until the child has removed the server's
 * handlers, which would otherwise act on the server's state.
 */
static bool
start_command(const char *command)
{
	int			output = -1;
	int			cause;
	sigset_t	all;
	sigset_t	before;
	pid_t		pid = -1;

	if (open_pipe(&current.output_pipe, &output))
	{
		sigfillset(&all);
		(void) sigprocmask(SIG_SETMASK, &all, &before);
		pid = fork();
		if (pid == 0)
			become_command(command, output);
		cause = errno;
		(void) sigprocmask(SIG_SETMASK, &before, NULL);
	}
	else
		cause = errno;
	close_pipe(&output);
	if (pid > 0)
	{
		/* The child does the same; whichever is first, the group exists from here on. */
		(void) setpgid(pid, pid);
		current.pid = pid;
		current.status = -1;
	}
	errno = cause;
	return pid > 0;
}

/* Whether the command itself has ended. It is not reaped, so that its PID remains that of its group. */
static bool
has_exited(void)
{
	siginfo_t	info;

	memset(&info, 0, sizeof(info));
	if (waitid(P_PID, (id_t) current.pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
		return errno != EINTR;
	return info.si_pid == current.pid;
}

/* Reaps the command, which has ended or was killed. */
static void
reap(void)
{
	for (int waited = 0; current.pid > 0 && waited < REAP_MS; waited++)
	{
		pid_t		reaped = waitpid(current.pid, &current.status, WNOHANG);

		if (reaped == current.pid || (reaped < 0 && errno != EINTR))
			current.pid = 0;
		else
			pg_usleep(1000L);
	}
	current.pid = 0;
}

/* Terminates the command and all processes in its process group. */
static void
end_command(void)
{
	if (current.pid <= 0)
		return;
	(void) kill(-current.pid, SIGTERM);
	for (int waited = 0; waited < LEAVE_MS && !has_exited(); waited++)
		pg_usleep(1000L);
	(void) kill(-current.pid, SIGKILL);
	reap();
}

/* Cleans up after the run, however it ended. */
static void
clean_up(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	end_command();
	close_pipe(&current.output_pipe);
	arena_free(current.output, OUTPUT_BYTES);
	current.output = NULL;
	current.output_length = 0;
}

/* Reads what is available from the pipe, and closes it at end of file. */
static void
read_output(void)
{
	ssize_t		got = read(current.output_pipe, current.output + current.output_length, OUTPUT_BYTES - current.output_length);

	if (got > 0)
		current.output_length += (size_t) got;
	else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
		close_pipe(&current.output_pipe);
}

/* Waits at most this long for something to read, and reads it. */
static void
wait_and_read(int timeout)
{
	static uint32 wait_event = 0;
	struct pollfd output = {.fd = current.output_pipe, .events = POLLIN};

	pgstat_report_wait_start(KEYROT_WAIT_EVENT(&wait_event, "KeyrotMasterKeyCommand"));
	if (poll(&output, 1, timeout) > 0)
		read_output();
	pgstat_report_wait_end();
}

static int
time_left(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, current.begun);
	return keyrot_master_key_timeout - (int) Min(INSTR_TIME_GET_MILLISEC(now), (double) keyrot_master_key_timeout);
}

/*
 * Reads until the command has ended and no process that it started has the pipe open, or the time is up.  The
 * end is usually noticed immediately, because it closes the pipe; after that it is polled for at increasing
 * intervals.
 */
static Ending
follow(void)
{
	int			turn = 1;

	for (;;)
	{
		bool		at_end = current.output_pipe < 0;
		int			left = time_left();

		CHECK_FOR_INTERRUPTS();
		if (IsUnderPostmaster && !PostmasterIsAlive())
			proc_exit(1);
		if (current.output_length == OUTPUT_BYTES)
			return TOO_LONG;
		if (at_end && has_exited())
			return ENDED;
		if (left <= 0)
			return has_exited() ? PIPE_LEFT_OPEN : TOO_SLOW;
		wait_and_read(Min(left, at_end ? turn : TURN_MS));
		turn = at_end ? Min(2 * turn, TURN_MS) : turn;
	}
}

/* Runs the command until it ends or must be stopped; the caller must clean up. */
static Ending
run_command(const char *command, int *cause)
{
	volatile Ending ending = NOT_STARTED;

	INSTR_TIME_SET_CURRENT(current.begun);
	PG_ENSURE_ERROR_CLEANUP(clean_up, (Datum) 0);
	{
		if (start_command(command))
			ending = follow();
		else
			*cause = errno;
	}
	PG_END_ENSURE_ERROR_CLEANUP(clean_up, (Datum) 0);
	if (ending == ENDED)
		reap();
	return ending;
}


/* The result */

/* Sets the problem for invalid output of a command that succeeded. */
static void
set_format_problem(MasterTextStatus status, int line, KeyProblem *problem)
{
	switch (status)
	{
		case MASTER_TEXT_OK:
			break;
		case MASTER_TEXT_EMPTY:
			problem_set(problem, hint_format, "keyrot.master_key_command printed no key");
			break;
		case MASTER_TEXT_MALFORMED_LINE:
			problem_set(problem, hint_format, "line %d of the output of keyrot.master_key_command is not 64 hex digits", line);
			break;
		case MASTER_TEXT_TOO_MANY_KEYS:
			problem_set(problem, hint_format, "keyrot.master_key_command printed more than %d keys", MASTER_TEXT_MAX_KEYS);
			break;
		case MASTER_TEXT_CRYPTO_FAILED:
			problem_set(problem, "Check that OpenSSL provides SHA-256.", "could not compute the fingerprint of a master key");
			break;
	}
}

/* The keys of a command that succeeded, in locked memory. */
static MasterKeys *
parse_output(KeyProblem *problem)
{
	MasterKeys *keys = arena_alloc(sizeof(MasterKeys));
	int			line;
	MasterTextStatus status;

	if (keys == NULL)
	{
		problem_set(problem, "Close other sessions or add memory.",
					"out of memory while reading the output of keyrot.master_key_command");
		return NULL;
	}
	status = master_text_parse(current.output, current.output_length, keys, &line);
	if (status == MASTER_TEXT_OK)
		return keys;
	set_format_problem(status, line, problem);
	arena_free(keys, sizeof(MasterKeys));
	return NULL;
}

/* Sets the problem for a command that did not succeed. */
static void
set_ending_problem(Ending ending, int cause, KeyProblem *problem)
{
	char	   *result;

	switch (ending)
	{
		case NOT_STARTED:
			errno = cause;
			problem_set(problem, "The server must be able to start another process and to open a few files.",
						"could not start keyrot.master_key_command: %m");
			break;
		case ENDED:
			result = wait_result_to_str(current.status);
			problem_set(problem, hint_run, "keyrot.master_key_command failed: %s", result);
			pfree(result);
			break;
		case TOO_SLOW:
			problem_set(problem, "Make it faster, or raise keyrot.master_key_timeout.",
						"keyrot.master_key_command did not finish within %d ms", keyrot_master_key_timeout);
			break;
		case PIPE_LEFT_OPEN:
			problem_set(problem, "Redirect the output of processes that it leaves running.",
						"keyrot.master_key_command finished, but a process that it started kept its output open for %d ms",
						keyrot_master_key_timeout);
			break;
		case TOO_LONG:
			problem_set(problem, hint_format, "keyrot.master_key_command printed %d bytes or more", OUTPUT_BYTES);
			break;
	}
}

/*
 * Runs the command and waits for it, at most keyrot.master_key_timeout.  Returns the keys that it printed, in
 * locked memory to be freed by master_free() before anything can throw, or NULL with a problem and a hint.
 * Raises the error of an interrupt, after the command has been terminated.
 */
MasterKeys *
master_command_run(KeyProblem *problem)
{
	MasterKeys *keys = NULL;
	int			cause = 0;
	bool		succeeded;
	Ending		ending;

	current.output = arena_alloc(OUTPUT_BYTES);
	if (current.output == NULL)
	{
		problem_set(problem, "Close other sessions or add memory.",
					"out of memory while running keyrot.master_key_command");
		return NULL;
	}
	ending = run_command(keyrot_master_key_command, &cause);
	succeeded = ending == ENDED && current.status == 0;
	if (succeeded)
		keys = parse_output(problem);
	clean_up(0, (Datum) 0);
	if (!succeeded)
		set_ending_problem(ending, cause, problem);
	return keys;
}
