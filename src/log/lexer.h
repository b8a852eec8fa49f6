/*
 * lexer.h
 *	  The tokens of SQL texts, as far as hiding them needs.
 */
#ifndef KEYROT_LEXER_H
#define KEYROT_LEXER_H

#include <stdbool.h>
#include <stddef.h>

typedef enum LexerKind
{
	LEXER_END,
	LEXER_BROKEN,				/* has no end, or one that depends on settings */
	LEXER_STRING,				/* '', E'', B'', X'', N'', U&'' */
	LEXER_NAME,					/* "", U&"" */
	LEXER_DOLLAR,				/* $tag$ $tag$ */
	LEXER_COMMENT,
	LEXER_WORD,					/* a bare name or number */
	LEXER_SEMICOLON,			/* that ends a statement */
	LEXER_OTHER
} LexerKind;

typedef struct Lexer
{
	const char *text;
	size_t		end;
	size_t		at;				/* where the next token is looked for */
	int			depth;			/* of parentheses */
	bool		in_body;		/* semicolons are of a body: BEGIN ATOMIC */
	/* The token at hand. */
	LexerKind	kind;
	size_t		start;
	size_t		open;			/* what a quoted one holds is from here, */
	size_t		close;			/* to here */
} Lexer;

extern Lexer lexer_begin(const char *text, size_t start, size_t end);
extern LexerKind lexer_next(Lexer *lexer);

#endif
