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
	Datum		row[] = {
		CStringGetTextDatum(progress_action_name(progress->action)),
		Int64GetDatum(progress->done),
		Int64GetDatum(progress->total),
		TimestampTzGetDatum(progress->started_at),
		IntervalPGetDatum(&interval),
		Int32GetDatum(progress->pid),
	};
	bool		nulls[lengthof(row)] = {[4] = left < 0};

	if (may_see(progress))
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
