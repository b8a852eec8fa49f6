/*
 * parameter_list.h
 *	  The parameters of functions: the name of each, its name in api() (NULL: it has none there), and which values it
 *	  accepts, as the end of a sentence.  conditions.[ch] make an enum and a table of them, so this has no guard.
 */
PARAMETER(PARAM_APP_ID, "app_id", "AppId", "a number of at least 1")
PARAMETER(PARAM_APP_NAME, "app_name", "AppName", "1 to 128 characters without control characters or spaces at either end")
PARAMETER(PARAM_APP_KEY, "app_key", "AppKey", AN_APP_KEY)
PARAMETER(PARAM_NEW_APP_KEY, "new_app_key", "NewAppKey", AN_APP_KEY)
PARAMETER(PARAM_APP_SECRET, "app_secret", "AppSecret", AN_APP_SECRET)
PARAMETER(PARAM_NEW_APP_SECRET, "new_app_secret", "NewAppSecret", AN_APP_SECRET)
PARAMETER(PARAM_DESCRIPTION, "description", "Description", "1 to 1000 characters without control characters or spaces at either end")
PARAMETER(PARAM_ZONE_ID, "zone_id", "ZoneId", A_ZONE_ID)
PARAMETER(PARAM_SECRET_KEY, "secret_key", "SecretKey", A_SECRET_KEY)
PARAMETER(PARAM_GATEWAY_ID, "gateway_id", NULL, A_ZONE_ID)
PARAMETER(PARAM_GRACE_PERIOD, "grace_period", "GracePeriod", "an interval between 0 and keyrot.max_grace")
PARAMETER(PARAM_GRACE_SECONDS, "grace_period", "GracePeriod", "a whole number of seconds between 0 and keyrot.max_grace")	/* as api() takes it */
PARAMETER(PARAM_GRACE_FROM, "grace_from", "GraceFrom", "\"rotation\" or \"first_use\"")
PARAMETER(PARAM_ROTATE_AFTER, "rotate_after", NULL, A_PERIOD)
PARAMETER(PARAM_LIFETIME, "lifetime", NULL, A_PERIOD)
PARAMETER(PARAM_CLIENT_TOKEN, "client_token", "ClientToken", "1 to 64 printable ASCII characters without spaces")
PARAMETER(PARAM_OWNER, "owner", NULL, "a role")
PARAMETER(PARAM_PAGE_NUMBER, "page_number", "PageNumber", "at least 1")
PARAMETER(PARAM_PAGE_SIZE, "page_size", "PageSize", "at least 1")
PARAMETER(PARAM_BOUNDED_PAGE_SIZE, "page_size", "PageSize", "between 1 and 100")	/* as api() takes it */
PARAMETER(PARAM_NEWEST_FIRST, "newest_first", "Sort", "true or false")
PARAMETER(PARAM_SORT, "newest_first", "Sort", "\"desc\" or \"asc\"")	/* as api() takes it */
PARAMETER(PARAM_DISABLED, "disabled", "Disabled", "true or false")
PARAMETER(PARAM_SECRET, "secret", NULL, "an AppSecret or a SecretKey")
PARAMETER(PARAM_ALGORITHM, "algorithm", NULL, "\"sha256\" or \"sha1\"")
PARAMETER(PARAM_MESSAGE, "message", NULL, "bytes")
PARAMETER(PARAM_STRING_TO_SIGN, "string_to_sign", NULL, "text that can be converted to UTF-8")
PARAMETER(PARAM_CLAIMS, "claims", NULL, "a JSON object whose token is at most 8192 bytes long")
PARAMETER(PARAM_PARAMS, "params", "Params", "a JSON object")
PARAMETER(PARAM_OLDER_THAN, "older_than", NULL, "a finite interval that is not negative")
PARAMETER(PARAM_REWRAP, "rewrap", NULL, "true or false")
PARAMETER(PARAM_BATCH_SIZE, "batch_size", NULL, "between 1 and 100000")
PARAMETER(PARAM_AFTER, "after", NULL, "a position returned by changes(), or null")
PARAMETER(PARAM_MAX_COUNT, "max_count", NULL, "at least 1")
PARAMETER(PARAM_MOMENT, "moment", NULL, "a finite time not later than the year 10889")
PARAMETER(PARAM_MAX_AGE, "max_age", NULL, "a finite interval that is not negative")
PARAMETER(PARAM_ALL_OWNERS, "all_owners", NULL, "true or false")
PARAMETER(PARAM_APP_KEYS, "app_keys", NULL, "an array of AppKeys without nulls")
PARAMETER(PARAM_ZONE_IDS, "zone_ids", NULL, "an array of ZoneIds without nulls")
