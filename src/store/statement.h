/*
 * statement.h
 *	  Statements: their parameters, and how they are run.  For this room alone.
 */
#ifndef KEYROT_STATEMENT_H
#define KEYROT_STATEMENT_H

#include "base/compat.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/rows.h"

#define MAX_PARAMETERS 13

/* A role's name as text; an error (22021) where it is not valid in the database's encoding, in which it may not be. */
#define VALID_NAME_OF(role) \
	"pg_catalog.convert_from(pg_catalog.convert_to(pg_catalog.text(" role ".rolname), " \
	"pg_catalog.getdatabaseencoding()), pg_catalog.getdatabaseencoding())"

/* A statement, its plan once it was prepared, and how SPI reports its success. */
typedef struct Statement
{
	const char *text;
	int			success;
	Oid			types[MAX_PARAMETERS];
	bool		custom_plans;	/* which rows are wanted decides how to find them */
	bool		stable;			/* reads what the query sees that it runs in */
	SPIPlanPtr	plan;
} Statement;

/* Parameters in the order of the statement. */
typedef struct Parameters
{
	int			count;
	Datum		values[MAX_PARAMETERS];
	char		nulls[MAX_PARAMETERS];
} Parameters;

typedef void (*RowReader) (HeapTuple tuple, TupleDesc desc, void *reader_state);

/* What the caller was and had, to be given back. */
typedef struct OwnerSession
{
	Oid			user;
	int			security_context;
	int			nest_level;
} OwnerSession;

extern void parameters_add_bytes(Parameters *parameters, const void *bytes, size_t length);
extern void parameters_add_sealed(Parameters *parameters, const Sealed *sealed);
extern void statement_become_owner(OwnerSession *session);
extern void statement_leave_owner(const OwnerSession *session);
extern uint64 statement_run(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state);

static inline uint64
statement_run_without_rows(Statement *statement, const Parameters *parameters)
{
	return statement_run(statement, parameters, NULL, NULL);
}

static inline void
parameters_add(Parameters *parameters, Datum value)
{
	parameters->values[parameters->count] = value;
	parameters->nulls[parameters->count++] = ' ';
}

static inline void
parameters_add_null(Parameters *parameters)
{
	parameters->values[parameters->count] = (Datum) 0;
	parameters->nulls[parameters->count++] = 'n';
}

static inline void
parameters_add_text(Parameters *parameters, const char *value)
{
	parameters_add(parameters, CStringGetTextDatum(value));
}

static inline void
parameters_add_time(Parameters *parameters, TimestampTz value)
{
	if (value == NO_TIME)
		parameters_add_null(parameters);
	else
		parameters_add(parameters, TimestampTzGetDatum(value));
}

#endif
