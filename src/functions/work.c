/*
 * work.c
 *	  The function behind the view keyrot.progress.
 */
#include "base/compat.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/rights.h"
#include "record/progress.h"

PG_FUNCTION_INFO_V1(keyrot_running_work);

enum
{
	WORK_ACTION,
	WORK_DONE,
	WORK_TOTAL,
	WORK_STARTED_AT,
	WORK_TIME_LEFT,
	WORK_PID,
	WORK_COLUMNS
};

static bool
may_see(const Progress *progress)
{
	char	   *name = GetUserNameFromId(progress->user, true);

	return name != NULL && rights_over(GetUserId(), progress->user, name) == RIGHTS_GRANTED;
}

static void
put_work(const Progress *progress, void *reader_state)
{
	ReturnSetInfo *result = reader_state;
	int64		left = progress_time_left(progress, GetCurrentTimestamp());
	Interval	interval = {.time = left};
	Datum		row[WORK_COLUMNS];
	bool		nulls[WORK_COLUMNS] = {[WORK_TIME_LEFT] = left < 0};

	if (!may_see(progress))
		return;
	row[WORK_ACTION] = CStringGetTextDatum(progress_action_name(progress->action));
	row[WORK_DONE] = Int64GetDatum(progress->done);
	row[WORK_TOTAL] = Int64GetDatum(progress->total);
	row[WORK_STARTED_AT] = TimestampTzGetDatum(progress->started_at);
	row[WORK_TIME_LEFT] = IntervalPGetDatum(&interval);
	row[WORK_PID] = Int32GetDatum(progress->pid);
	tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
}

/* running_work(OUT action, OUT done, OUT total, OUT started_at, OUT time_left, OUT pid) */
Datum
keyrot_running_work(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	progress_read(put_work, fcinfo->resultinfo);
	return (Datum) 0;
}
