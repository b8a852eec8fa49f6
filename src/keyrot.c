/*
 * keyrot.c
 *	  The library's entry point, and a map of the source.
 *
 * Vocabulary
 *	  app, AppKey, AppSecret   an API caller; its public identifier; the secret it signs with
 *	  zone, zone key, gateway  a site; the one SecretKey of that site; a gateway of the site
 *	  credential               an AppKey's secret or a zone's key, with its version
 *	  rotate                   replace a credential by its next version (reset, refresh, modify)
 *	  grace period             how long the previous version is still accepted
 *	  request, RequestId       one call of a function that is recorded; its UUID version 7
 *	  owner, operator          whose credential it is; a role that may act on every one
 *	  seal                     encrypt and authenticate for storage
 *	  data key, master key     what seals secrets, stored wrapped; what wraps it, outside the database
 *
 * Rooms, from the top down; a file includes headers of its own room and of those below
 *	  functions/  what SQL calls, one function each
 *	  core/       the life of a request and of a credential; the order of their steps
 *	  record/     what is recorded outside the caller's transaction
 *	  keys/       from the source of the master key to an unwrapped data key
 *	  store/      keyrot's tables: rows and statements
 *	  log/        log and statement texts without secrets
 *	  base/       settings, errors, and what differs between versions of PostgreSQL
 *	  crypto/     OpenSSL, secrets and identifiers, without PostgreSQL
 */
#include "base/compat.h"

#include "core/limit.h"
#include "core/request.h"
#include "record/counters.h"
#include "record/ledger.h"
#include "record/queue.h"
#include "record/usage.h"
#include "record/worker.h"
#include "keys/master_cache.h"
#include "log/mask.h"
#include "log/redact.h"
#include "log/session.h"
#include "base/settings.h"

KEYROT_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	settings_init();
	master_cache_init();
	limit_init();
	queue_init();
	counters_init();
	usage_init();
	ledger_init();
	request_init();
	worker_init();
	session_init();
	redact_init();
	mask_init();
}
