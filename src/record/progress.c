/*
 * progress.c
 *	  How far long work has come, for other sessions to see: in the place that PostgreSQL keeps for that in each
 *	  session's entry of pg_stat_activity.
 *
 * VACUUM and CREATE INDEX report their progress in the same way.  It needs neither a table nor preloading, can be seen
 * before anything is committed, and disappears when the work fails or its session ends, in whatever way.  The
 * disadvantage: if track_activities is off, nothing is shown.
 */
#include "record/progress.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"

/* Differs from all of PostgreSQL's own commands, so that their views ignore it. */
#define OURS ((ProgressCommandType) 0x6b6579)	/* "key" */

/* Positions of the values shown. */
enum
{
	SHOWN_ACTION,
	SHOWN_DONE,
	SHOWN_TOTAL,
	SHOWN_STARTED_AT,
	SHOWN_COUNT
};

static const char *const names[] = {
	[PROGRESS_RESEAL] = "reseal",
	[PROGRESS_RESET_APPS] = "reset_apps",
	[PROGRESS_REFRESH_ZONES] = "refresh_zones",
};

/* Shows the progress of this session's work, in place of what was shown before. */
void
progress_show(const Progress *progress)
{
	const int	positions[SHOWN_COUNT] = {SHOWN_ACTION, SHOWN_DONE, SHOWN_TOTAL, SHOWN_STARTED_AT};
	const int64 values[SHOWN_COUNT] = {progress->action, progress->done, progress->total, progress->started_at};

	pgstat_progress_start_command(OURS, InvalidOid);
	pgstat_progress_update_multi_param(SHOWN_COUNT, positions, values);
}

/* Stops showing this session's work. */
void
progress_end(void)
{
	pgstat_progress_end_command();
}

/* The procedure that does it. */
const char *
progress_action_name(ProgressAction action)
{
	return names[action];
}

/* Estimates the remaining time in microseconds; -1 if nothing is done yet. */
int64
progress_time_left(const Progress *progress, TimestampTz now)
{
	double		spent = (double) Max(now - progress->started_at, 0);

	if (progress->done == 0)
		return -1;
	return (int64) (spent / (double) progress->done * (double) Max(progress->total - progress->done, 0));
}

/* Passes the work of all sessions of this database to the reader; the same within a transaction, like pg_stat_activity. */
void
progress_read(ProgressReader reader, void *reader_state)
{
	int			count = pgstat_fetch_stat_numbackends();

	for (int i = 1; i <= count; i++)
	{
		const PgBackendStatus *entry = &KEYROT_BACKEND_STATUS(i)->backendStatus;
		Progress	progress = {.pid = entry->st_procpid, .user = entry->st_userid};
		int64		action = entry->st_progress_param[SHOWN_ACTION];

		if (entry->st_procpid <= 0 || entry->st_databaseid != MyDatabaseId || entry->st_progress_command != OURS ||
			action < 0 || action >= (int64) lengthof(names) || entry->st_progress_param[SHOWN_STARTED_AT] == 0)
			continue;
		progress.action = (ProgressAction) action;
		progress.done = entry->st_progress_param[SHOWN_DONE];
		progress.total = entry->st_progress_param[SHOWN_TOTAL];
		progress.started_at = entry->st_progress_param[SHOWN_STARTED_AT];
		reader(&progress, reader_state);
	}
}
