/*
 * lexer.h
 *	  The tokens of SQL texts, in as much detail as is needed to hide them.
 */
#ifndef KEYROT_LEXER_H
#define KEYROT_LEXER_H

#include <stdbool.h>
#include <stddef.h>

typedef enum LexerKind
{
	LEXER_END,
	LEXER_BROKEN,				/* does not end, or where it ends depends on settings */
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
	size_t		at;				/* where the next token begins, or white space before it */
	int			depth;			/* of parentheses */
	bool		in_body;		/* semicolons belong to a body: BEGIN ATOMIC */
	/* The current token. */
	LexerKind	kind;
	size_t		start;
	size_t		open;			/* what is quoted is from here */
	size_t		close;			/* up to here */
} Lexer;

extern Lexer lexer_begin(const char *text, size_t start, size_t end);
extern LexerKind lexer_next(Lexer *lexer);

#endif
