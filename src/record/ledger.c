/*
 * ledger.c
 *	  Decides which requests that failed, or whose success was rolled back, are recorded.
 *
 * Owns the list of requests that succeeded in the current transaction.  A success is recorded in the caller's
 * own transaction and disappears if that is rolled back, so each is remembered until that transaction ends: a
 * subtransaction that commits passes its requests to its parent; if it, or the transaction, aborts, they are
 * noted as rolled back.  The requests of a prepared transaction are forgotten when it is prepared, because it
 * may outlive this session and even this server.
 *
 * The notes are stored by queue.c; requests and rights are defined by request.c.
 *
 * What runs in the callbacks must not fail: all memory it needs was allocated while the request ran.
 */
#include "record/ledger.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "record/counters.h"
#include "record/queue.h"
#include "base/notices.h"
#include "base/settings.h"
#include "crypto/uuid7.h"

/* A request that succeeded; its row is as long as its target needs. */
struct LedgerEntry
{
	LedgerEntry *older;
	int			nest_level;		/* of the transaction that it belongs to */
	bool		disclosed;		/* its caller was given a secret */
	RequestRow	row;
};

static LedgerEntry *newest = NULL;

static LedgerPlace place;
static bool place_known = false;

static LedgerPlace
find_place(void)
{
	char	   *database;
	bool		is_ours;

	if (!settings_preloaded())
		return LEDGER_NOT_PRELOADED;
	if (!queue_exists())
		return LEDGER_NO_DATABASE;
	database = get_database_name(MyDatabaseId);
	if (database == NULL)
		return LEDGER_OTHER_DATABASE;
	is_ours = strcmp(database, keyrot_database) == 0;
	pfree(database);
	return is_ours ? LEDGER_RECORDS : LEDGER_OTHER_DATABASE;
}

/*
 * What becomes of failed requests of this session.  Looked up once: a database cannot be renamed while a
 * session is in it.  The first call needs a transaction that has not failed.
 */
LedgerPlace
ledger_place(void)
{
	if (!place_known)
	{
		place = find_place();
		place_known = true;
	}
	return place;
}

/*
 * Has a request recorded from outside its transaction, where that is done.  Never raises, also after an
 * error: so ledger_place() must have been called before.
 */
void
ledger_note(const RequestRow *row)
{
	if (!place_known || place != LEDGER_RECORDS || IsParallelWorker() || RecoveryInProgress())
		return;
	counters_add_request(row->action, row->outcome);
	queue_put(row);
}

/*
 * Makes what is needed to remember a request that succeeds.  It belongs to the transaction; raises when
 * out of memory.
 */
LedgerEntry *
ledger_prepare(const RequestRow *row)
{
	size_t		length = offsetof(RequestRow, target) + strlen(row->target) + 1;
	LedgerEntry *entry = MemoryContextAlloc(TopTransactionContext, offsetof(LedgerEntry, row) + length);

	memcpy(&entry->row, row, length);
	return entry;
}

/*
 * Remembers a request that succeeded, until the transaction ends; never raises.  Where nothing is recorded,
 * only one that disclosed a secret is worth it.
 */
void
ledger_remember(LedgerEntry *entry, bool disclosed)
{
	if (!disclosed && ledger_place() != LEDGER_RECORDS)
	{
		pfree(entry);
		return;
	}
	entry->nest_level = GetCurrentTransactionNestLevel();
	entry->disclosed = disclosed;
	entry->older = newest;
	newest = entry;
}

/*
 * Notes a request whose success is undone.  A failed one that is remembered, because somebody caught the
 * error and had it recorded in the transaction, keeps its outcome.
 */
static void
note_undone(const LedgerEntry *entry)
{
	RequestRow	row = {.outcome = "rolled back"};
	char		id[UUID7_TEXT];

	memcpy(&row, &entry->row, offsetof(RequestRow, target) + strlen(entry->row.target) + 1);
	if (strcmp(row.outcome, "ok") == 0)
	{
		strlcpy(row.outcome, "rolled back", sizeof(row.outcome));
		row.version = 0;
	}
	ledger_note(&row);
	if (!entry->disclosed)
		return;
	uuid7_to_text(row.id.data, id);
	log_disclosure_undone(id, row.action, row.target);
}

/* Notes what succeeded at this nesting level and deeper, oldest first, and forgets it. */
static void
undo(int nest_level)
{
	LedgerEntry *undone = NULL;

	while (newest != NULL && newest->nest_level >= nest_level)
	{
		LedgerEntry *entry = newest;

		newest = entry->older;
		entry->older = undone;
		undone = entry;
	}
	for (; undone != NULL; undone = undone->older)
		note_undone(undone);
}

/* Counts what is recorded now that its transaction ends well. */
static void
count_recorded(void)
{
	if (!place_known || place != LEDGER_RECORDS)
		return;
	for (const LedgerEntry *entry = newest; entry != NULL; entry = entry->older)
		counters_add_request(entry->row.action, entry->row.outcome);
}

static void
on_transaction(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_ABORT)
		undo(0);
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE)
		return;
	count_recorded();
	newest = NULL;
}

static void
on_subtransaction(SubXactEvent event, SubTransactionId me pg_attribute_unused(),
				  SubTransactionId parent pg_attribute_unused(), void *arg pg_attribute_unused())
{
	int			nest_level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
		undo(nest_level);
	if (event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (LedgerEntry *entry = newest; entry != NULL && entry->nest_level >= nest_level; entry = entry->older)
		entry->nest_level = nest_level - 1;
}

/* Watches how transactions end; called once, when the library is loaded. */
void
ledger_init(void)
{
	RegisterXactCallback(on_transaction, NULL);
	RegisterSubXactCallback(on_subtransaction, NULL);
}

/* A rotation keeps a previous version until then; whoever wipes it should know. */
void
ledger_expect_expiry(TimestampTz valid_until)
{
	if (ledger_place() == LEDGER_RECORDS)
		queue_expect_expiry(valid_until);
}
