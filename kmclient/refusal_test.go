package kmclient

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// refusedGet is the error for an answer to a request for fresh keys.
func refusedGet(status int, header http.Header, body string) *Error {
	return refusal(call{op: operationGetKeys}, status, header, []byte(body))
}

// wordings are what key managers say to a request for fresh keys, by what they
// mean. Each is tried as a message with every status that is named.
func wordings() map[error]map[string][]int {
	return map[error]map[string][]int{
		ErrKeyExhausted: {
			"Not enough keys to satisfy the request":                         {400},
			"Not enough key material in the pool for SAE bob":                {503},
			"The number of requested keys is not available":                  {400},
			"There are no keys available for the requested SAE pair.":        {400},
			"Requested more keys than available":                             {400},
			"You requested more keys than are stored":                        {400},
			"number of keys requested exceeds number of keys available":      {400},
			"insufficient key count: requested 128, stored 15":               {400},
			"only 15 of 128 keys available":                                  {400},
			"Can't fulfil request: 15 keys in stock, 128 requested":          {400},
			"The KME does not currently have enough keys":                    {400},
			"Key storage is empty, please wait until new keys are generated": {503},
			"Error: not enough keys":                                         {400},
			"KME error: insufficient keys":                                   {503},
			"quantum key pool has run dry":                                   {400},
			"unable to provide 128 keys: only 15 keys are stored":            {400},
			"OutOfKeysError":                                                     {400},
			"KEYS_NOT_AVAILABLE":                                                 {400},
			"KeyExhaustedException":                                              {400},
			"requested number exceeds stored_key_count":                          {400},
			"Requested keys (128) > available keys (15)":                         {400},
			"available (15) < requested (128) keys":                              {400},
			"key buffer underflow":                                               {400},
			"Key shortage":                                                       {400},
			"lack of QKD keys":                                                   {400},
			"no keys ready":                                                      {503},
			"There aren't enough keys":                                           {400},
			"There isn't enough key material":                                    {400},
			"We are out of keys at the moment, retry in 30 seconds":              {400},
			"Key generation has not produced enough keys yet":                    {400},
			"key material for the link is not sufficient":                        {400},
			"The available key material does not suffice":                        {400},
			"QKD key store low: 0 keys available":                                {503},
			"stored_key_count=0":                                                 {503},
			"Key store does not contain enough keys":                             {400},
			"No keys were found":                                                 {404},
			"There is no key for SAE_B":                                          {404},
			"No available key":                                                   {404},
			"Keys are temporarily unavailable":                                   {409},
			"the maximum number of available keys is 15, but 128 were requested": {400},
			// The stock is empty, in one way or another.
			"Key pool exhausted": {400, 404, 409, 500, 503},
			"key pool for SAE_A and SAE_B is currently exhausted":   {400, 503},
			"QKD keys exhausted, try later":                         {400, 503},
			"Quantum key buffer is empty":                           {400, 503},
			"The key store has been depleted":                       {400, 503},
			"All QKD keys have been consumed; key buffer drained":   {400},
			"key material exhausted":                                {400, 503},
			"keys used up":                                          {400},
			"Exhausted all available keys":                          {503},
			"insufficient keys available":                           {400, 503},
			"Insufficient key material":                             {400, 503},
			"Insufficient available quantum keys":                   {400},
			"Key material is insufficient":                          {400},
			"not enough keys":                                       {400, 503},
			"There are not enough keys in the key store":            {400, 503},
			"Not enough key bits available":                         {400},
			"too few keys in the buffer":                            {400},
			"No keys available":                                     {400, 404, 503},
			"no more keys":                                          {404},
			"no key":                                                {400, 503},
			"No key.":                                               {400},
			"No key found":                                          {404},
			"Key not found":                                         {404},
			"0 keys":                                                {503},
			"Available keys: 0":                                     {400, 503},
			"stored_key_count is 0":                                 {400},
			"out of keys":                                           {503},
			"The KME ran out of keys":                               {503},
			"KME does not have enough keys":                         {400},
			"Requested keys are not available":                      {400},
			"Quantum keys are not available at this time":           {400, 503},
			"INSUFFICIENT_KEYS":                                     {400, 503},
			"KEY_POOL_EXHAUSTED":                                    {409},
			"NoKeysAvailable":                                       {400},
			"QKDKeyPoolEmpty":                                       {503},
			"no keys available for link 7":                          {503},
			"key store exhausted: too many keys wait to be fetched": {503},

			// More was asked for than there is.
			"The requested key amount exceeds the generated key count. Try again later.":    {400, 503},
			"Requested number of keys exceeds the available key count":                      {400},
			"number of keys requested is greater than the number of stored keys":            {400},
			"The requested number of keys is larger than what is left in the pool":          {400},
			"Requested key count exceeds maximum available":                                 {400},
			"fewer keys are available than requested":                                       {400},
			"available key count is lower than requested":                                   {400},
			"Requested 10 keys but only 3 available":                                        {400},
			"only 3 keys left":                                                              {400},
			"3 keys available, 10 requested":                                                {400},
			"stored_key_count 3 < number 10: not enough keys":                               {400},
			"Requested size of 4096 bits exceeds the key material that is stored":           {400},
			"The amount of requested key material exceeds the amount of available key bits": {400},

			// It is a matter of time, and it is keys that are waited for.
			"keys are being generated, please try again later":    {400, 503},
			"Keys not yet distilled. Retry in a moment.":          {400, 503},
			"The KME is waiting for new keys, please retry later": {400, 503},
		},
		ErrUnavailable: {
			"Key manager overloaded":                                {503},
			"no available server to handle this request":            {503},
			"NullPointerException in KeyController.getKeys":         {500},
			"SQLSTATE[HY000] too many connections":                  {500},
			"Keys not available: database down":                     {503},
			"KME offline: keys not available":                       {503},
			"could not obtain keys: file handles exhausted":         {500},
			"buffer exhausted while serializing keys":               {503},
			"no space left on device for key store":                 {503},
			"request queue exhausted, keys not delivered":           {503},
			"insufficient resources to handle key request":          {503},
			"no worker available for getting keys":                  {503},
			"no KME available for keys":                             {503},
			"no route to the peer KME, key exchange stopped":        {503},
			"The key service ran out of threads":                    {503},
			"System resources exhausted":                            {503},
			"key retrieval failed: insufficient storage":            {500},
			"quota exhausted":                                       {503},
			"Keys cannot be served while the KME is in maintenance": {503},
			"License for keys exhausted":                            {503},
			"Pool exhausted":                                        {503},
			"lock on key pool not available":                        {503},
			"no endpoints available for service kme-keys":           {503},
			"Error 500: empty response while fetching keys":         {500},
			"keys: empty reply from backend":                        {500},
			"key store is out of order":                             {503},
			"The key store is not available":                        {503},
			"Hardware security module has no free slots for keys":   {503},
			// Out of order, whatever else it says.
			"":                                   {500, 502, 503, 504},
			"Service Unavailable":                {503},
			"Service temporarily unavailable":    {503},
			"Internal Server Error":              {500},
			"database connection pool exhausted": {400, 500, 503},
			"Could not get keys: connection pool exhausted":             {500, 503},
			"Could not fetch keys: all retries exhausted":               {500, 503},
			"Error while getting keys: pool exhausted":                  {500, 503},
			"no keys can be read: the database is down":                 {500, 503},
			"Key database unavailable":                                  {503},
			"no database connection, so no keys available":              {400, 503},
			"key server unavailable":                                    {503},
			"Key manager is starting, try again later":                  {400, 503},
			"Key Management Entity temporarily unavailable":             {503},
			"Key service temporarily unavailable, try again later":      {400, 503},
			"Failed to read keys, try again later":                      {400, 503},
			"insufficient memory to make keys":                          {500, 503},
			"out of memory":                                             {500, 503},
			"No response from the key store":                            {500, 503},
			"thread pool exhausted while handling the key request":      {503},
			"QKD link is down":                                          {503},
			"KME not synchronized with its peer, try again later":       {400, 503},
			"no connection to the key pool":                             {500, 503},
			"insufficient disk space in key store":                      {500},
			"Keys could not be delivered: HSM session exhausted":        {503},
			"upstream connect error or disconnect/reset before headers": {503},
			"no healthy upstream":                                       {503},
			"Gateway Time-out":                                          {504},
			"API key limit exhausted":                                   {503},

			// It may pass, and does not say that keys are lacking.
			"Try again later.":                                 {400, 409, 503},
			"Temporarily unable to serve the request":          {400, 503},
			"rate limit exceeded, try again later":             {400, 429, 503},
			"Too many requests":                                {429},
			"Key quota of this hour exceeded, try again later": {400, 429},
		},
		ErrLimit: {
			"number shall be 1 to 128":                                                    {400},
			"size shall be 64 to 524544 bits":                                             {400},
			"number must be between 1 and 10":                                             {400},
			"number has to be less than 11":                                               {400},
			"Value 200 of number is not between 1 and 128":                                {400, 422},
			"number must not exceed 128":                                                  {400},
			"max 10 keys":                                                                 {400},
			"The number of keys must be at most 1":                                        {400},
			"Only one key per request is supported":                                       {400},
			"only 1 key can be requested at a time":                                       {400},
			"number of keys exceeds maximum":                                              {400},
			"Requested number of keys is greater than maximum number of keys per request": {400},
			"Requested size is larger than supported maximum":                             {400},
			"number exceeds max_key_per_request":                                          {400},
			"number exceeds the maximum per request":                                      {400},
			"The requested number of keys exceeds the maximum of 10 keys per request":     {400},
			"at most 128 keys per request, try again with fewer":                          {400},
			"no more than 128 keys may be requested":                                      {400},
			"not enough: number shall be 1 to 128 keys per request":                       {400},
			"too many keys requested":                                                     {400, 413},
			"maximum number of keys exceeded":                                             {400},
			"requested 200 keys, available per request: 128":                              {400},
			"size exceeds max_key_size":                                                   {400},
			"key size 8192 is larger than the maximum key size of 4096":                   {400},
			"number out of range":                                                         {400},
			"Requested 200 keys exceeds the limit of 128 keys":                            {400},
			"no keys: number exceeds max_key_per_request (128)":                           {400},
		},
		ErrBadRequest: { // and no ErrLimit
			"key size 256 is not available":                            {400},
			"no keys for unknown SAE":                                  {400},
			"SAE_X is not registered, no keys available":               {400},
			"The list of keys in the request is empty":                 {400},
			"empty key_IDs":                                            {400},
			"no number of keys given":                                  {400},
			"Missing key size":                                         {400},
			"size 64 is too small, keys must have 128 bits or more":    {400},
			"size shall be a multiple of 8":                            {400},
			"not all extension_mandatory parameters are supported":     {400},
			"not all extension_mandatory request options could be met": {400},
			"not all extension_optional request options handled":       {400},
			"no key_size given":                                        {400},
			"no key size given":                                        {400},
			"no key ID":                                                {400},
			"no keys specified in the request":                         {400},
			"key_size is not enough: at least 64":                      {400},
			"the API key of the caller is not known":                   {400},
			"no such thing":                                            {400},
			"no monkeys available":                                     {400},
			"Bad Request":                                              {400},
			"SAE_B is not known: no keys are allowed":                  {400},
			"": {400},
			"malformed JSON in POST /api/v1/keys/SAE_B/enc_keys": {400},
			"unknown member keys":                                {400},
		},
		ErrBadAnswer: {
			"No route matches [POST] /api/v1/keys/get": {404},
			"no handler found for enc_keys":            {404},
			"slave SAE not found: no keys":             {404},
			"":                                         {404},
			"Not Found":                                {404},
			"no such path":                             {404},
			"Cannot POST /api/v1/keys/get":             {404},
			"/api/v1/keys/SAE_B/enc_keys not found":    {404},
			"The requested URL was not found on this server. If you entered the URL manually please check your spelling and try again.": {404},
			"resource not found: keys": {404},
		},
		ErrRefused: {
			"":                {401, 403},
			"no keys for you": {401, 403},
			"not enough keys": {401, 403},
		},
	}
}

func TestRefusedKeys(t *testing.T) {
	cases := 0
	for want, texts := range wordings() {
		for text, statuses := range texts {
			for _, status := range statuses {
				cases++
				for form, body := range map[string]string{
					"message": `{"message":` + strconv.Quote(text) + `}`,
					"details": `{"message":"Request not served.","details":[{"reason":` + strconv.Quote(text) + `}]}`,
					"nested":  `{"error":{"code":4711,"message":` + strconv.Quote(text) + `},"path":"/api/v1/keys/SAE_B/enc_keys"}`,
					"code":    `{"message":"Sorry","error_code":` + strconv.Quote(text) + `}`,
					"text":    text + "\n",
				} {
					if form == "details" && want == ErrBadRequest || form != "message" && text == "" {
						continue
					}
					e := refusedGet(status, nil, body)
					if !errors.Is(e, want) || want == ErrBadRequest && errors.Is(e, ErrLimit) {
						t.Errorf("HTTP %d, %q as %s: %v, want %v", status, text, form, e, want)
					}
					if e.Retry != (want == ErrKeyExhausted || want == ErrUnavailable) {
						t.Errorf("HTTP %d, %q as %s: Retry is %t", status, text, form, e.Retry)
					}
				}
			}
		}
	}
	if cases < 150 {
		t.Errorf("only %d cases", cases)
	}
}

// Retry-After says that the request as such is right. Whether it is keys that
// are waited for, only words say.
func TestRefusedWithRetryAfter(t *testing.T) {
	header := http.Header{"Retry-After": {"30"}}
	for _, test := range []struct {
		status int
		body   string
		want   error
	}{
		{400, `{}`, ErrUnavailable},
		{400, ``, ErrUnavailable},
		{400, `{"message":"Bad Request"}`, ErrUnavailable},
		{400, `{"message":"The keys for this link are in preparation"}`, ErrKeyExhausted},
		{503, `{"message":"The keys for this link are in preparation"}`, ErrKeyExhausted},
		{503, `{}`, ErrUnavailable},
		{503, `<html>maintenance`, ErrUnavailable},
		{503, `{"message":"Key service in maintenance"}`, ErrUnavailable},
		{429, `{"message":"too many requests for keys"}`, ErrUnavailable},
		{400, `{"message":"number exceeds max_key_per_request"}`, ErrLimit},
		{401, `{"message":"keys later"}`, ErrRefused},
		{500, `{"message":"exception in the keys module"}`, ErrUnavailable},
	} {
		if e := refusedGet(test.status, header, test.body); !errors.Is(e, test.want) {
			t.Errorf("HTTP %d, Retry-After, %s: %v, want %v", test.status, test.body, e, test.want)
		}
	}
	if e := refusal(call{op: operationStatus}, 400, header, nil); !errors.Is(e, ErrUnavailable) || !e.Retry {
		t.Errorf("a status with 400 and Retry-After: %v, want ErrUnavailable", e)
	}
}

// A 401 for a key by its ID may speak of the key. It stays an ErrRefused, with
// which a relay waits.
func TestRefusedByID(t *testing.T) {
	for _, test := range []struct {
		op     string
		status int
		body   string
		want   error
		words  string
	}{
		{operationKeysByID, 401, ``, ErrRefused, "a key that it does not hold"},
		{operationKeysByID, 403, `{"message":"key not found"}`, ErrRefused, "another SAE's"},
		{operationGetKeys, 401, ``, ErrRefused, "HTTP 401"},
		{operationKeysByID, 400, `{"message":"one or more keys specified are not found on KME"}`, ErrKeyNotFound, "not found"},
		{operationKeysByID, 404, ``, ErrKeyNotFound, ""},
		{operationKeysByID, 503, `{"message":"not enough keys"}`, ErrUnavailable, ""},
		{operationCloseKey, 404, ``, ErrKeyNotFound, ""},
	} {
		e := refusal(call{op: test.op, ids: []string{"x"}}, test.status, nil, []byte(test.body))
		if !errors.Is(e, test.want) || !strings.Contains(e.Error(), test.words) {
			t.Errorf("%s, HTTP %d: %v, want %v with %q", test.op, test.status, e, test.want, test.words)
		}
		if test.op == operationGetKeys && strings.Contains(e.Error(), "does not hold") {
			t.Errorf("a 401 for fresh keys speaks of a key: %v", e)
		}
	}
}

func TestSaysNotFound(t *testing.T) {
	for message, want := range map[string]bool{
		"one or more keys specified are not found on KME": true,
		"Key not found":                  true,
		"unknown key ID":                 true,
		"KME: key_ID does not exist":     true,
		"No such key":                    true,
		"no key with this ID":            true,
		"key has already been consumed":  true,
		"The key ID isn't known":         true,
		"":                               false,
		"not found":                      false,
		"slave SAE not found for keys":   false,
		"key_IDs must not be empty":      false,
		"size shall be a multiple of 8":  false,
		"path /api/v1/keys/x not found":  false,
		"key service unavailable":        false,
		"resource not found: keys":       false,
		"monkeys not found":              false,
		"number of keys is not allowed":  false,
		"the KME could not decrypt keys": false,
	} {
		if got := saysNotFound(message); got != want {
			t.Errorf("%q: taken as a key not found: %t, want %t", message, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	long := strings.Repeat("é", 300)
	for body, want := range map[string]string{
		`{"message":"a","error":"b"}`:           "a",
		`{"message":"","error":"b"}`:            "b",
		`{"message":1,"error":{},"detail":"c"}`: "c",
		`{"detail":[{"msg":"x"}]}`:              "x",
		`{"error":{"message":"nested"}}`:        "nested",
		`<html>`:                                "",
		`"text"`:                                "text",
		"No keys available\n":                   "No keys available",
		`{"message":"cut off`:                   "",
		``:                                      "",
		"\x01\x02raw":                           "",
		`{"message":"a\r\nb\u001b[31m \u202e c"}`:  "a b[31m c",
		`{"error":"` + long + `"}`:                 long[:2*(maxMessage-1)] + "…",
		"{\"message\":\"\xff\xfe bad \xc3\x28\"} ": "bad (",
	} {
		if got := readWords([]byte(body), nil).message; got != want {
			t.Errorf("%.60s: got %q, want %q", body, got, want)
		}
	}
	details := func(body string) []string { return readWords([]byte(body), nil).details }
	many := fmt.Sprintf(`{"details":[%s{"z":"%s"}]}`, strings.Repeat(`{"a":1},`, 20), strings.Repeat("x", 300))
	if d := details(many); len(d) != maxDetails || d[0] != `{"a":1}` {
		t.Errorf("of 21 details %d are kept: %q", len(d), d)
	}
	if d := details(`{"details":[{"z":"` + strings.Repeat("é", 300) + `\u001b"}]}`); len([]rune(d[0])) != maxMessage {
		t.Errorf("a detail of %d characters, want %d", len([]rune(d[0])), maxMessage)
	}
	for _, body := range []string{``, `<html>`, `{"details":"text"}`, `{"details":{}}`, `[]`} {
		if d := details(body); d != nil {
			t.Errorf("%s: details are %q, want none", body, d)
		}
	}
}
