/*
 * ledger.h
 *	  Requests that failed, or whose success was rolled back, on record.
 */
#ifndef KEYROT_LEDGER_H
#define KEYROT_LEDGER_H

#include "base/compat.h"

#include "store/rows.h"

/* What becomes of failed requests of this session. */
typedef enum LedgerPlace
{
	LEDGER_RECORDS,				/* they are recorded */
	LEDGER_NOT_PRELOADED,		/* or are in the server log only, and why */
	LEDGER_NO_DATABASE,
	LEDGER_OTHER_DATABASE
} LedgerPlace;

typedef struct LedgerEntry LedgerEntry;

extern void ledger_init(void);
extern LedgerPlace ledger_place(void);

extern void ledger_note(const RequestRow *row);
extern LedgerEntry *ledger_prepare(const RequestRow *row);
extern void ledger_remember(LedgerEntry *entry, bool disclosed);
extern void ledger_expect_expiry(TimestampTz valid_until);

#endif
