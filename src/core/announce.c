/*
 * announce.c
 *	  Tells whoever listens on the channel "keyrot" of each rotation, once it has committed.
 *
 * A hint, no more: any role may listen there, and any may notify.  What can be relied on is the change feed.
 * PostgreSQL writes what is notified into one queue in the order of commits, so transactions that notify commit
 * one after the other; hence the setting, which is off.
 */
#include "core/announce.h"

#include "commands/async.h"

#include "base/settings.h"
#include "crypto/uuid7.h"

#define CHANNEL "keyrot"

/*
 * Sends a notification of a rotation that this transaction has recorded, if keyrot.notify is on: its kind, id,
 * version and RequestId, as in the change feed. Uses the row's changed, target, version and id.
 */
void
announce_rotation(const RequestRow *row)
{
	char		request_id[UUID7_TEXT];
	char	   *payload;

	if (!keyrot_notify)
		return;
	uuid7_to_text(row->id.data, request_id);
	payload = psprintf("{\"kind\": \"%s\", \"id\": \"%s\", \"version\": %d, \"request_id\": \"%s\"}",
					   row->changed == CREDENTIAL_APP ? "app" : "zone", row->target, row->version, request_id);
	Async_Notify(CHANNEL, payload);
	pfree(payload);
}
