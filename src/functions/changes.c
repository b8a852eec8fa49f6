/*
 * changes.c
 *	  The change feed: each committed change of a credential once, after a position that the reader stores.
 *
 * A position identifies the last change that was read, and the history that it belongs to: system, database, timeline
 * and WAL location at that time.  After a restore, or a failover to a standby that had not received everything,
 * transaction IDs are assigned a second time, and a reader that continued from its position would miss their changes.
 * So a position is accepted only if the server's history includes it.  On a standby that has not replayed as far, it is
 * accepted if the timeline is the same, and nothing comes after it.  If a server was set back without a new timeline,
 * for example by copying its files, its log lacks the change of that position, which is therefore refused.
 *
 * change_statements.c determines the order of changes, credential.c which requests are changes.
 */
#include "functions/function.h"

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include <inttypes.h>

#include "core/argument.h"
#include "core/rights.h"
#include "store/change_statements.h"
#include "store/tables.h"

PG_FUNCTION_INFO_V1(keyrot_changes);

#define POSITION_TEXT 120		/* with its end */

/* The state of this server now, or when it returned a position. */
typedef struct History
{
	uint64		system;
	Oid			database;
	TimeLineID	timeline;
	XLogRecPtr	end;
} History;

typedef struct Feed
{
	ReturnSetInfo *result;
	History		now;
} Feed;

/*
 * The end of the WAL, after flushing all of it to disk. So a crash cannot undo anything before it: neither a change
 * that was returned, nor the position of a reader who has read everything.
 */
static XLogRecPtr
flush_wal(void)
{
	XLogRecPtr	end = GetXLogInsertRecPtr();

	/*
	 * If the next record begins a page, the end of the WAL is after the page's header, which has not been written
	 * yet.
	 */
	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		end -= SizeOfXLogLongPHD;
	else if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= SizeOfXLogShortPHD;
	XLogFlush(end);
	return end;
}

static History
history_now(void)
{
	History		now = {.system = GetSystemIdentifier(), .database = MyDatabaseId};

	if (RecoveryInProgress())
	{
		now.end = GetXLogReplayRecPtr(&now.timeline);
		return now;
	}
	now.timeline = GetWALInsertionTimeLine();
	now.end = flush_wal();
	return now;
}

/* Whether the history of this server includes that state or, on a standby, may still come to include it. */
static bool
history_includes(const History *now, const History *then)
{
	List	   *timelines;

	if (then->system != now->system || then->database != now->database)
		return false;
	if (then->timeline == now->timeline)
		return then->end <= now->end || RecoveryInProgress();
	timelines = readTimeLineHistory(now->timeline);
	return tliInHistory(then->timeline, timelines) && then->end <= tliSwitchPoint(then->timeline, timelines, NULL);
}

static const char *
position_to_text(const History *history, const ChangePlace *place, char text[POSITION_TEXT])
{
	uint64		halves[2];

	memcpy(halves, place->request_id.data, sizeof(halves));
	snprintf(text, POSITION_TEXT, "%" PRIx64 "-%x-%x-%" PRIx64 "-%" PRIx64 "-%016" PRIx64 "%016" PRIx64,
			 (uint64_t) history->system, history->database, history->timeline, (uint64_t) history->end,
			 (uint64_t) place->transaction, (uint64_t) pg_ntoh64(halves[0]), (uint64_t) pg_ntoh64(halves[1]));
	return text;
}

/* Parses a position; false unless it is written exactly as keyrot writes it. */
static bool
position_from_text(const char *whole, History *history, ChangePlace *place)
{
	const char *text = whole;
	char		written[POSITION_TEXT];
	char		half[17];
	uint64		fields[5];
	uint64		halves[2];
	char	   *end;

	for (int i = 0; i < (int) lengthof(fields); i++, text = end + 1)
	{
		fields[i] = strtoull(text, &end, 16);
		if (*end != '-')
			return false;
	}
	strlcpy(half, text, sizeof(half));
	halves[0] = pg_hton64(strtoull(half, NULL, 16));
	halves[1] = pg_hton64(strtoull(text + strlen(half), NULL, 16));
	memcpy(place->request_id.data, halves, sizeof(halves));
	*history = (History) {fields[0], (Oid) fields[1], (TimeLineID) fields[2], fields[3]};
	place->transaction = fields[4];
	return strcmp(whole, position_to_text(history, place, written)) == 0;
}

/* Returns the place in the changes of a position; raises 22023 if it is malformed or of another history. */
static ChangePlace
read_after(FunctionCallInfo fcinfo, const History *now)
{
	ChangePlace place = {0};
	History		then;

	if (PG_ARGISNULL(0))
		return place;
	if (!position_from_text(TextDatumGetCString(PG_GETARG_DATUM(0)), &then, &place))
		error_malformed(PARAM_AFTER);
	if (!history_includes(now, &then) || !change_statements_know(&place))
		error_foreign_position();
	return place;
}

static void
put_change(const Change *change, void *reader_state)
{
	const Feed *feed = reader_state;
	char		position[POSITION_TEXT];
	Datum		row[] = {
		CStringGetTextDatum(position_to_text(&feed->now, &change->place, position)),
		UUIDPGetDatum(&change->place.request_id),
		CStringGetTextDatum(change->kind == CREDENTIAL_APP ? "app" : "zone"),
		CStringGetTextDatum(change->target),
		Int32GetDatum(change->version),
		CStringGetTextDatum(change->action),
		TimestampTzGetDatum(change->changed_at),
	};
	bool		nulls[lengthof(row)] = {[4] = change->version == 0};

	tuplestore_putvalues(feed->result->setResult, feed->result->setDesc, row, nulls);
}

/* changes(after, max_count, OUT position, OUT request_id, OUT kind, OUT id, OUT version, OUT action, OUT changed_at) */
Datum
keyrot_changes(PG_FUNCTION_ARGS)
{
	Feed		feed = {.now = history_now()};
	int			max_count = argument_positive(fcinfo, 1, PARAM_MAX_COUNT);
	ChangePlace after;

	InitMaterializedSRF(fcinfo, 0);
	feed.result = (ReturnSetInfo *) fcinfo->resultinfo;
	tables_lock_access_share();
	if (tables_are_distributed())
		error_not_distributable("changes", "The transactions of several nodes have no common order.");
	after = read_after(fcinfo, &feed.now);
	change_statements_read(&after, max_count, GetUserId(), rights_is_operator(GetUserId()), put_change, &feed);
	return (Datum) 0;
}
