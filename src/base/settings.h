/*
 * settings.h
 *	  Every setting of keyrot.
 */
#ifndef KEYROT_SETTINGS_H
#define KEYROT_SETTINGS_H

#include "port/atomics.h"

#define MAX_RATE_LIMIT 1000		/* requests a second */

extern char *keyrot_master_key_file;
extern char *keyrot_master_key_command; /* empty: the file counts */
extern int	keyrot_master_key_timeout;	/* milliseconds */
extern char *keyrot_operator_role;
extern char *keyrot_app_secret_prefix;	/* empty: generated AppSecrets have none */
extern int	keyrot_max_grace;		/* seconds */
extern int	keyrot_zone_rate_limit; /* requests a second; 0: no limit */
extern int	keyrot_app_rate_limit;
extern int	keyrot_rate_limit_entries;
extern char *keyrot_database;
extern int	keyrot_request_queue_size;	/* requests */
extern int	keyrot_usage_entries;	/* credentials; 0: none */
extern bool keyrot_redact_log;
extern bool keyrot_notify;

extern void settings_init(void);
extern bool settings_preloaded(void);
extern uint64 settings_reloads(void);
extern void settings_count_reloads_in(pg_atomic_uint64 *counter);

#endif
