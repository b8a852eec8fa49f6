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

#include "store/fragments.h"
#include "store/rows.h"

#define MAX_PARAMETERS 19

/* A statement, its plan once it was prepared, and how SPI reports its success. */
typedef struct Statement
{
	const char *text;
	int			success;
	Oid			types[MAX_PARAMETERS];
	bool		custom_plans;	/* which rows are wanted decides how to find them */
	bool		by_key;			/* touches single rows by their primary key, also where the table is small */
	bool		stable;			/* reads what the active snapshot sees */
	SPIPlanPtr	plan;
	uint64		generation;		/* of the tables, when the plan was made */
	int			depth;			/* how many calls are running it: a trigger may come back to it */
} Statement;

/* Parameters in the order of the statement. */
typedef struct Parameters
{
	int			count;
	Datum		values[MAX_PARAMETERS];
	char		nulls[MAX_PARAMETERS];
} Parameters;

/* The same statement for apps and for zones, made of STATEMENT(table, identifier), and the one for a kind. */
#define FOR_BOTH_KINDS(STATEMENT) {STATEMENT("app", "app_key"), STATEMENT("zone", "zone_id")}
#define STATEMENT_FOR(kind, statements) (&(statements)[(kind) == CREDENTIAL_APP ? 0 : 1])

typedef void (*RowReader) (HeapTuple tuple, TupleDesc desc, void *reader_state);

/* Returns whether a row has the given values. */
typedef bool (*RowCheck) (HeapTuple tuple, TupleDesc desc, const void *given);

extern void parameters_add_null(Parameters *parameters);
extern void parameters_add_time(Parameters *parameters, TimestampTz value);
extern void parameters_add_text(Parameters *parameters, const char *value);
extern void parameters_add_bytes(Parameters *parameters, const void *bytes, size_t length);
extern void parameters_add_text_or_null(Parameters *parameters, const char *value);
extern void parameters_add_policy(Parameters *parameters, const Credential *credential);
extern void parameters_add_sealed(Parameters *parameters, const Sealed *sealed);
extern void parameters_add_array(Parameters *parameters, Datum *values, bool *nulls, int count, Oid type);
extern uint64 statement_run(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state);

extern int64 statement_count(Statement *statement, const Parameters *parameters);
extern bool statement_try_write_checked(Statement *statement, const Parameters *parameters, const char *table,
										RowCheck is_as_given, const void *given);
extern bool statement_try_write(Statement *statement, const Parameters *parameters, const char *table);
extern void statement_write_one(Statement *statement, const Parameters *parameters, const char *table);
extern void statement_touch_one(Statement *statement, const Parameters *parameters, const char *table);

static inline uint64
statement_run_without_rows(Statement *statement, const Parameters *parameters)
{
	return statement_run(statement, parameters, NULL, NULL);
}

static inline void
parameters_add_nullable(Parameters *parameters, Datum value, bool is_null)
{
	parameters->values[parameters->count] = value;
	parameters->nulls[parameters->count++] = is_null ? 'n' : ' ';
}

static inline void
parameters_add(Parameters *parameters, Datum value)
{
	parameters_add_nullable(parameters, value, false);
}

#endif
