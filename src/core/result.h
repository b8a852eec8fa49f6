/*
 * result.h
 *	  What SQL functions return: a RequestId, a row, a secret as text.
 */
#ifndef KEYROT_RESULT_H
#define KEYROT_RESULT_H

#include "core/request.h"

extern Datum result_request_id(Request *request);
extern Datum result_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls, int count);
extern Datum result_secret(Request *request);

#endif
