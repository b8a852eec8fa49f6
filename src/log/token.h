/*
 * token.h
 *	  Where the tokens of SQL end.
 *
 * "at" is where a token begins and "end" where the text ends; TOKEN_OPEN_ENDED tells that it ends first.
 */
#ifndef KEYROT_TOKEN_H
#define KEYROT_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#define TOKEN_OPEN_ENDED ((size_t) -1)

extern bool token_is_space(char c);
extern bool token_is_plain_name(const char *name, size_t length);
extern size_t token_quoted_name_end(const char *text, size_t quote, size_t end, bool in_message);
extern void token_past_blanks(const char *text, size_t at, size_t end, char next[2]);
extern bool token_word_follows(const char *text, size_t at, size_t end, const char *word);
extern bool token_is_digit(char c);
extern bool token_starts_name(char c);
extern bool token_continues_name(char c);
extern size_t token_name_end(const char *text, size_t at, size_t end);
extern size_t token_number_end(const char *text, size_t at, size_t end);
extern size_t token_comment_end(const char *text, size_t at, size_t end);
extern size_t token_string_end(const char *text, size_t at, size_t end, bool escapes);
extern bool token_string_is_ambiguous(const char *text, size_t at, size_t end);
extern size_t token_tag_length(const char *text, size_t at, size_t end);
extern size_t token_body_end(const char *text, size_t at, size_t end, size_t tag);

#endif
