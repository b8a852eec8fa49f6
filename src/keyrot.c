/*
 * keyrot.c
 *	  The library's entry, and the map of the house.
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
 * Floors; a file includes headers of lower floors only, or of a sibling that an arrow names
 *	  4  keyrot.c          this entry
 *	  3  app.c zone.c      the SQL functions on apps; on zones, their keys and gateways
 *	     signature.c       verify and sign
 *	     api.c             the two clouds' actions                         -> api_read, api_shape, app, zone
 *	     api_read.c        their parameters                                -> api_shape
 *	     api_shape.c       their answers
 *	     administration.c  owners, the request log, status                 -> reseal
 *	     key_administration.c  master and data keys replaced
 *	     reseal.c          every secret moved to the current data key
 *	     worker.c          the background worker
 *	  2  credential.c      the life of a credential                        -> request
 *	     request.c         the life of a request
 *	     result.c          what SQL functions return                       -> request
 *	     retry.c           repeated calls                                  -> credential, request
 *	  1  rows.c            single rows, found, locked and written          -> owner, tables
 *	     store.c           every SQL statement                             -> rows, store_run
 *	     store_apps.c store_requests.c  those on apps; on the log          -> rows, store, store_run
 *	     store_keys.c      those on data keys                              -> rows, store_run
 *	     store_run.c       how they are run                                -> owner, rows
 *	     owner.c           acting as the tables' owner                     -> tables
 *	     tables.c          which relations are keyrot's
 *	     keyring.c         data keys, cached   -> key_marker, master_key, rows, store_keys, tables, wrapping
 *	     wrapping.c        data keys as rows, wrapped and unwrapped        -> rows
 *	     master_key.c      the master keys, from their source
 *	                               -> dependents, key_cache, key_command, key_file, key_marker
 *	     dependents.c      which databases need one                        -> key_marker, rows, tables
 *	     key_command.c     the command that prints them
 *	     key_cache.c       what it printed
 *	     key_file.c        the cluster's key file                          -> files
 *	     key_marker.c      which master keys the cluster depends on        -> files
 *	     files.c           small files that outlast a crash
 *	     redact.c          the log without secrets
 *	     mask.c            statements without secrets, for other readers   -> redact
 *	     rights.c          whose credentials a role may act on
 *	     limit.c           the rate limit
 *	     argument.c        the arguments of SQL functions, checked
 *	     ledger.c          failed requests, and what was rolled back      -> queue, rows
 *	     queue.c           those that wait to be recorded                 -> rows
 *	  0  crypto.c          OpenSSL and nothing else
 *	     seal.c keyfile.c  the stored format; master keys as text          -> crypto
 *	     secret.c identifier.c uuid7.c  secrets, public names, RequestIds  -> crypto
 *	     names.c token.c   calls that take a secret, by name; SQL's tokens
 *	     lexer.c           where secrets stand in SQL and messages         -> names, token
 *	     logtext.c         such texts without their secrets                -> lexer
 *	     settings.c        every setting                                   -> compat, errors
 *	     errors.c          what can go wrong, as PostgreSQL errors         -> compat, conditions, crypto, seal
 *	     conditions.c      what errors are about; the clouds' codes        -> compat
 *	     compat.h          what differs between versions of PostgreSQL
 */
#include "compat.h"

#include "key_cache.h"
#include "ledger.h"
#include "limit.h"
#include "mask.h"
#include "queue.h"
#include "redact.h"
#include "request.h"
#include "settings.h"
#include "worker.h"

KEYROT_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	settings_init();
	key_cache_init();
	limit_init();
	queue_init();
	ledger_init();
	request_init();
	worker_init();
	redact_init();
	mask_init();
}
