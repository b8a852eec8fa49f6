/*
 * metrics.c
 *	  What a monitoring system asks for, as rows of the view keyrot.metrics: name, labels, value, help.
 *
 * All is a counter in shared memory, or found out by a few look-ups: nothing here grows with the number of
 * credentials.  How many of those there are is what the worker counted when it last searched for expired versions.
 *
 * To add a metric, put it from one of the functions named in groups[], or from one more, and name it in the files
 * of monitoring/.  A name has at most 26 characters, and a line of help 18, so that psql shows the view in 100
 * columns.  postgres_exporter makes a name of its query's and a column's, so names that are alike up to their last
 * word have the same labels.
 */
#include "base/compat.h"

#include "access/xlog.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "functions/status.h"
#include "core/limit.h"
#include "core/signing.h"
#include "record/counters.h"
#include "record/ledger.h"
#include "record/queue.h"
#include "record/usage.h"

PG_FUNCTION_INFO_V1(keyrot_read_metrics);

#define METRICS_COLUMNS 4

/* A label whose value is NULL is omitted. */
typedef struct Labels
{
	const char *version;
	const char *item;
	const char *action;
	const char *reason;
	const char *kind;
} Labels;

/* Where the rows go, and what several groups need to know. */
typedef struct Metrics
{
	ReturnSetInfo *result;
	Status		status;
	bool		records;		/* whether requests of this database are recorded by the worker, and counted */
} Metrics;

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = (int) strlen(text);
	(void) pushJsonbValue(state, token, &value);
}

static void
push_label(JsonbParseState **state, const char *name, const char *value)
{
	if (value == NULL)
		return;
	push_string(state, WJB_KEY, name);
	push_string(state, WJB_VALUE, value);
}

static Datum
labels_as_jsonb(const Labels *labels)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_label(&state, "version", labels->version);
	push_label(&state, "item", labels->item);
	push_label(&state, "action", labels->action);
	push_label(&state, "reason", labels->reason);
	push_label(&state, "kind", labels->kind);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* Whole seconds, at least 0. */
static double
seconds(int64 microseconds)
{
	int64		whole = Max(microseconds, 0) / USECS_PER_SEC;

	return (double) whole;
}

static void
put_labelled(Metrics *metrics, const char *name, Labels labels, double value, const char *help)
{
	Datum		values[METRICS_COLUMNS] = {
		CStringGetTextDatum(name), labels_as_jsonb(&labels), Float8GetDatum(value), CStringGetTextDatum(help)
	};
	bool		nulls[METRICS_COLUMNS] = {false};

	tuplestore_putvalues(metrics->result->setResult, metrics->result->setDesc, values, nulls);
}

static void
put(Metrics *metrics, const char *name, double value, const char *help)
{
	put_labelled(metrics, name, (Labels) {0}, value, help);
}

static void
put_server(Metrics *metrics)
{
	put_labelled(metrics, "keyrot_build_info", (Labels) {.version = KEYROT_VERSION}, 1, "of the library");
	put(metrics, "keyrot_in_recovery", RecoveryInProgress(), "1 on a standby");
	put(metrics, "keyrot_limit_full_total", (double) limit_overflows(), "calls refused for\nlack of an entry");
	if (usage_exists())
		put(metrics, "keyrot_usage_entries", usage_entries_in_use(), "of last use that\nare taken");
}

/* One for each item of status(); those that have several rows have a problem in none of them. */
static void
put_problems(Metrics *metrics)
{
	const char *last = "";

	for (int i = 0; i < metrics->status.count; i++)
	{
		const StatusRow *row = &metrics->status.rows[i];

		if (strcmp(row->item, last) != 0)
			put_labelled(metrics, "keyrot_status_problem", (Labels) {.item = row->item}, row->problem != NULL, "1: see status()");
		last = row->item;
	}
}

static void
put_keys(Metrics *metrics)
{
	const Status *status = &metrics->status;
	int64		left = status->reseal_state == RESEAL_NONE ? 0 : status->reseal.total - status->reseal.done;

	put(metrics, "keyrot_data_keys", status->keys.data_keys, "data keys");
	put(metrics, "keyrot_reseal_left", (double) Max(left, 0), "not resealed yet");
}

static void
put_action(const char *name, uint64 count, void *reader_state)
{
	put_labelled(reader_state, "keyrot_requests_total", (Labels) {.action = name}, (double) count, "by function");
}

static void
put_failure(const char *name, uint64 count, void *reader_state)
{
	put_labelled(reader_state, "keyrot_failures_total", (Labels) {.reason = name}, (double) count, "failures by reason");
}

static void
put_requests(Metrics *metrics)
{
	QueueView	view;

	if (!metrics->records)
		return;
	queue_look(&view);
	counters_read_actions(put_action, metrics);
	counters_read_failures(put_failure, metrics);
	for (Reason reason = 0; reason < REASON_OK && usage_exists(); reason++)
		put_failure(signing_reason(reason), usage_failures(reason), metrics);
	put(metrics, "keyrot_queue_waiting", view.waiting, "not recorded yet");
	put(metrics, "keyrot_queue_lost_total", (double) view.lost, "never recorded");
	put(metrics, "keyrot_queue_omitted_total", (double) view.omitted, "refusals that are\nonly counted");
}

static void
put_census(Metrics *metrics, const char *kind, const Census *census, TimestampTz now)
{
	static const char *const names[CENSUS_ITEMS][2] = {
		[CENSUS_CURRENT] = {"keyrot_credential_current", "by state"},
		[CENSUS_RETIRING] = {"keyrot_credential_retiring", "by state"},
		[CENSUS_RETIRED] = {"keyrot_credential_retired", "by state"},
		[CENSUS_DISABLED] = {"keyrot_credential_disabled", "by state"},
		[CENSUS_EXPIRED] = {"keyrot_credential_expired", "by state"},
		[CENSUS_IN_GRACE] = {"keyrot_credential_in_grace", "grace is open"},
		[CENSUS_OVERDUE] = {"keyrot_credential_overdue", "due for rotation"},
		[CENSUS_EXPIRING] = {"keyrot_credential_expiring", "within 7 days"},
		[CENSUS_MAY_END] = {"keyrot_credential_may_end", "grace not used\nfor a day"},
	};
	const Labels labels = {.kind = kind};
	int64		grace = census->last_expiry == DT_NOBEGIN ? 0 : census->last_expiry - now;
	int64		age = census->oldest_version == DT_NOEND ? 0 : now - census->oldest_version;

	for (int i = 0; i < CENSUS_ITEMS; i++)
		put_labelled(metrics, names[i][0], labels, (double) census->counts[i], names[i][1]);
	put_labelled(metrics, "keyrot_grace_seconds", labels, seconds(grace), "longest grace left");
	put_labelled(metrics, "keyrot_oldest_seconds", labels, seconds(age), "of oldest version");
}

/* The counts made by the worker; if they are old, reading them causes a new count. */
static void
put_credentials(Metrics *metrics)
{
	TimestampTz now = GetCurrentTimestamp();
	QueueCensus census;

	if (!metrics->records || RecoveryInProgress())
		return;
	queue_ask_census(&census);
	if (census.counted_at == 0)
		return;
	/* Recorded uses say nothing if uses are no longer noted. */
	if (!usage_exists())
		census.apps.counts[CENSUS_MAY_END] = census.zones.counts[CENSUS_MAY_END] = 0;
	put(metrics, "keyrot_counted_seconds", seconds(now - census.counted_at), "since these were\ncounted");
	put_census(metrics, "app", &census.apps, now);
	put_census(metrics, "zone", &census.zones, now);
}

static void (*const groups[]) (Metrics *metrics) = {
	put_server, put_problems, put_keys, put_requests, put_credentials
};

/* read_metrics(OUT name, OUT labels, OUT value, OUT help), for the view */
Datum
keyrot_read_metrics(PG_FUNCTION_ARGS)
{
	Metrics		metrics = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	InitMaterializedSRF(fcinfo, 0);
	status_collect(&metrics.status);
	metrics.records = ledger_place() == LEDGER_RECORDS;
	for (int i = 0; i < (int) lengthof(groups); i++)
		groups[i] (&metrics);
	return (Datum) 0;
}
