/*
 * statement.h
 *	  Statements of the store: their parameters, and how they are run.  For src/store*.c alone.
 */
#ifndef KEYROT_STATEMENT_H
#define KEYROT_STATEMENT_H

#include "base/compat.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/rows.h"

#define MAX_PARAMETERS 13

/* A statement, its plan once it was prepared, and how SPI reports its success. */
typedef struct Statement
{
	const char *text;
	int			success;
	Oid			types[MAX_PARAMETERS];
	bool		custom_plans;	/* which rows are wanted decides how to find them */
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

extern uint64 store_run(Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state);

static inline uint64
run_without_rows(Statement *statement, const Parameters *parameters)
{
	return store_run(statement, parameters, NULL, NULL);
}

static inline void
add(Parameters *parameters, Datum value)
{
	parameters->values[parameters->count] = value;
	parameters->nulls[parameters->count++] = ' ';
}

static inline void
add_null(Parameters *parameters)
{
	parameters->values[parameters->count] = (Datum) 0;
	parameters->nulls[parameters->count++] = 'n';
}

static inline void
add_text(Parameters *parameters, const char *value)
{
	add(parameters, CStringGetTextDatum(value));
}

static inline void
add_bytes(Parameters *parameters, const void *bytes, size_t length)
{
	bytea	   *value = palloc(VARHDRSZ + length);

	SET_VARSIZE(value, VARHDRSZ + length);
	memcpy(VARDATA(value), bytes, length);
	add(parameters, PointerGetDatum(value));
}

static inline void
add_sealed(Parameters *parameters, const Sealed *sealed)
{
	if (sealed->length == 0)
		add_null(parameters);
	else
		add_bytes(parameters, sealed->bytes, sealed->length);
}

static inline void
add_time(Parameters *parameters, TimestampTz value)
{
	if (value == NO_TIME)
		add_null(parameters);
	else
		add(parameters, TimestampTzGetDatum(value));
}

#endif
