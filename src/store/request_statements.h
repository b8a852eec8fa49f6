/*
 * request_statements.h
 *	  The statements on the request log.
 */
#ifndef KEYROT_REQUEST_STATEMENTS_H
#define KEYROT_REQUEST_STATEMENTS_H

#include "base/compat.h"

#include "utils/uuid.h"

#include "store/rows.h"

extern void request_statements_insert(const RequestRow *row);
extern bool request_statements_record(const RequestRow *row);
extern int64 request_statements_prune(const pg_uuid_t *before);

#endif
