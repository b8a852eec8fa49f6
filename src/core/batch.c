/*
 * batch.c
 *	  Many credentials of one kind, rotated together: what credential.c does for one, each step for all of them.
 *
 * Why not one after the other?  Starting and ending a write costs more than the row and the cryptography.  Here a
 * statement writes all rows, and another records all requests.  Each has a RequestId of its own and is remembered by the
 * ledger like any other; the request that is under way is the call's, and is on record only where it fails.
 */
#include "core/batch.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "core/announce.h"
#include "core/credential.h"
#include "record/ledger.h"

#define FIRST_ROOM 64

/* Begins an empty batch. */
void
batch_begin(Batch *batch, CredentialKind kind)
{
	*batch = (Batch) {.kind = kind, .room = FIRST_ROOM, .rotations = palloc(FIRST_ROOM * sizeof(Rotation))};
}

/* Adds a credential, whose row is locked, with its grace period in microseconds. */
void
batch_add(Batch *batch, const Rotation *rotation, int64 grace)
{
	if (batch->count == batch->room)
	{
		batch->room *= 2;
		batch->rotations = repalloc_huge(batch->rotations, (Size) batch->room * sizeof(Rotation));
	}
	batch->rotations[batch->count] = *rotation;
	batch->rotations[batch->count++].grace = grace;
}

/* Makes the next version of a credential, with its own RequestId, without writing it. */
static void
renew_one(Request *request, Rotation *rotation)
{
	secret_wipe(&request->secret);
	secret_wipe(&request->current);
	request->arguments.grace = rotation->grace;
	request_give_id(request, &rotation->request_id);
	credential_renew(request, &rotation->credential);
}

/*
 * Makes the next versions of all; returns the AppKeys that they replaced and that are still in their grace period,
 * and the number of these.
 */
static int
renew_all(Request *request, Batch *batch, char **predecessors)
{
	int			count = 0;

	for (int i = 0; i < batch->count; i++)
	{
		Credential *credential = &batch->rotations[i].credential;

		CHECK_FOR_INTERRUPTS();
		credential_require_rights(request->caller, credential);
		if (credential_has_predecessor_in_grace(credential))
			predecessors[count++] = credential->previous_app_key;
		renew_one(request, &batch->rotations[i]);
	}
	return count;
}

/* Notifies listeners of each rotation, and has it recorded if this transaction is rolled back. */
static void
tell_all(const Batch *batch, RequestRow *row)
{
	for (int i = 0; i < batch->count; i++)
	{
		row->id = batch->rotations[i].request_id;
		row->version = batch->rotations[i].credential.version;
		strlcpy(row->target, batch->rotations[i].credential.identifier, sizeof(row->target));
		announce_rotation(row);
		if (ledger_place() == LEDGER_RECORDS)
			ledger_remember(ledger_prepare(row), false);
	}
}

/*
 * Rotates all credentials of a batch. Their time is that of the clock or, if later, the given time. Raises the errors
 * of a single rotation, and 55000 if a row was not written.
 */
void
batch_rotate(Request *request, Batch *batch, TimestampTz not_before)
{
	char	  **predecessors;
	int			predecessor_count;
	RequestRow	row;

	if (batch->count == 0)
		return;
	predecessors = palloc(batch->count * sizeof(char *));
	request->started_at = Max(GetCurrentTimestamp(), not_before);
	predecessor_count = renew_all(request, batch, predecessors);
	bulk_statements_end_grace_of(predecessors, predecessor_count);
	bulk_statements_write(batch->kind, batch->rotations, batch->count, request->started_at);
	request_make_row(request, "ok", &row);
	row.changed = batch->kind;
	bulk_statements_record(&row, batch->rotations, batch->count);
	tell_all(batch, &row);
}
