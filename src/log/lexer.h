/*
 * lexer.h
 *	  Finds the secrets in SQL texts, and in messages that hold SQL, by their position.
 */
#ifndef KEYROT_LEXER_H
#define KEYROT_LEXER_H

#include <stdbool.h>
#include <stddef.h>

/* What stands for what is hidden. */
#define LEXER_MARKER "<redacted by keyrot>"
#define LEXER_MARKER_LENGTH (sizeof(LEXER_MARKER) - 1)

/* How a text is read: a statement, or a message that may hold statements, in quotes or after a preface. */
typedef enum LexerForm
{
	LEXER_SQL,
	LEXER_MESSAGE
} LexerForm;

/* What a text was found to be; each asks for more than the one before. */
typedef enum LexerVerdict
{
	LEXER_HARMLESS,				/* hands no secret over */
	LEXER_ARGUMENTS,			/* secrets may stand in the arguments of certain calls */
	LEXER_ANYWHERE,				/* secrets may come from any literal of the text */
	LEXER_UNCLEAR				/* speaks of such calls, and cannot be read: hide it whole */
} LexerVerdict;

typedef struct LexerText
{
	const char *text;
	size_t		length;			/* bytes */
	LexerForm	form;
	bool		(*takes_secret) (const char *prepared);	/* whether EXECUTE of this name does; may be NULL */
} LexerText;

/* What a hidden token is, so that one of its kind can be put in its place. */
typedef enum LexerFiller
{
	LEXER_FILL_QUOTED,			/* a string, a comment, a name in quotes */
	LEXER_FILL_NUMBER,
	LEXER_FILL_WORD
} LexerFiller;

/* Is told of a stretch of the text that is to be hidden. */
typedef void (*LexerHide) (void *sink, size_t start, size_t end, LexerFiller filler);

extern LexerVerdict lexer_judge(const LexerText *text);
extern bool lexer_each_hidden(const LexerText *text, LexerVerdict verdict, LexerHide callback, void *sink);

#endif
