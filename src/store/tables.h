/*
 * tables.h
 *	  Which relations are keyrot's tables.
 */
#ifndef KEYROT_TABLES_H
#define KEYROT_TABLES_H

#include "base/compat.h"

#include "storage/lockdefs.h"
#include "utils/relcache.h"

typedef struct Tables
{
	Oid			owner;
	Oid			app;
	Oid			zone;
	Oid			gateway;
	Oid			data_key;
	Oid			request;
	Oid			retry;
	Oid			reseal;
	Oid			credential_use;
} Tables;

extern const Tables *tables_find(void);
extern const Tables *tables_get(void);
extern Relation tables_open_readable(Oid table, LOCKMODE mode);
extern Relation tables_open_by_key(Oid table, Relation *key);
extern Relation tables_open_writable(Oid table, LOCKMODE mode);
extern bool tables_have_triggers(Oid table);
extern bool tables_are_distributed(void);
extern void tables_refuse_rules(void);
extern uint64 tables_generation(void);
extern uint64 tables_data_key_changes(void);
extern void tables_lock_access_share(void);
extern void tables_await_writers(void);

#endif
