package kmsim

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Options say how a simulator behaves. With the zero Options it is quick and
// never runs out of keys.
type Options struct {
	KeySize           int // bits, if a request gives no size; 256 if zero
	MinKeySize        int // bits; 64 if zero
	MaxKeySize        int // bits; 524,544 if zero: 64 KiB of pad plus 32 bytes
	MaxKeysPerRequest int // 128 if zero
	// MaxSAEIDs is how many additional slave SAEs a request may name (ETSI
	// only): max_SAE_ID_count. Zero: no multicast.
	MaxSAEIDs int
	// MaxWaiting is how many keys of a pair of SAEs may wait to be fetched
	// (QMail: are kept); 1,048,576 if zero. Beyond that no more are made.
	// Together with MaxKeySize this bounds the memory used.
	MaxWaiting int

	// Rate and Capacity give each pair of SAEs (QMail: all callers together) a
	// stock of keys. It is full at the start, loses a key for each KeySize bits
	// handed out, or part thereof, and gains Rate keys a second. Rate alone: a
	// Capacity of 100,000 keys. Capacity alone: a stock that is used up.
	// Neither: keys are made on demand.
	Rate     float64 // keys a second
	Capacity int     // keys
	// ExhaustedStatus is the HTTP status when the stock is too small: 503 (if
	// zero) or 400. The standard assigns none.
	ExhaustedStatus int

	Latency time.Duration // before every answer

	// Fail is what goes wrong at random: rules separated by commas, each
	// ACTION:PROBABILITY, or PROBABILITY alone, which means status=503. Actions:
	//
	//	status=CODE  answers with that HTTP status (400 to 599), and does nothing
	//	cut          closes the connection without an answer, and does nothing
	//	lost         does what was asked for and closes the connection without
	//	             an answer: keys are used up that no one has
	//
	// With HTTP/2, only the stream is closed. At most one rule applies to a
	// request, so the probabilities may add up to at most 1. Examples: "0.1" and
	// "status=503:0.1,lost:0.01".
	Fail string

	// Extensions are the names that extension_mandatory and extension_optional
	// may have. True: the simulator says that it has met the extension; false:
	// that it could not. It does nothing else with them.
	Extensions map[string]bool
	// StrictOptional refuses a request with an extension_optional that is not
	// met, instead of ignoring the extension.
	StrictOptional bool

	Quirks Quirks       // for tests
	Logger *slog.Logger // access log and failures; may be nil

	// Observe is called for each request, for metrics, by several goroutines at
	// the same time; may be nil.
	Observe func(Request)
}

const (
	defaultCapacity = 100_000   // keys
	maxAnswer       = 256 << 20 // bytes of key in one answer
)

// complete fills in the defaults and checks the rest.
func (o Options) complete() (Options, error) {
	o.KeySize = cmp.Or(o.KeySize, 256)
	o.MinKeySize = cmp.Or(o.MinKeySize, 64)
	o.MaxKeySize = cmp.Or(o.MaxKeySize, 8*(64<<10+32))
	o.MaxKeysPerRequest = cmp.Or(o.MaxKeysPerRequest, 128)
	o.MaxWaiting = cmp.Or(o.MaxWaiting, 1<<20)
	o.ExhaustedStatus = cmp.Or(o.ExhaustedStatus, http.StatusServiceUnavailable)
	if o.Rate > 0 && o.Capacity == 0 {
		o.Capacity = defaultCapacity
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for name, size := range map[string]int{"key size": o.KeySize, "smallest key size": o.MinKeySize, "largest key size": o.MaxKeySize} {
		if size < 8 || size%8 != 0 || size > maxKeySize {
			return o, fmt.Errorf("%w: %s %d: must be a multiple of 8 bits, 8 to %d", kmclient.ErrConfig, name, size, maxKeySize)
		}
	}
	switch {
	case o.KeySize < o.MinKeySize || o.KeySize > o.MaxKeySize:
		return o, fmt.Errorf("%w: key size %d: must be %d to %d bits", kmclient.ErrConfig, o.KeySize, o.MinKeySize, o.MaxKeySize)
	case o.MaxKeysPerRequest < 1 || o.MaxKeysPerRequest > kmclient.MaxRequestKeys:
		return o, fmt.Errorf("%w: %d keys a request: must be 1 to %d", kmclient.ErrConfig, o.MaxKeysPerRequest, kmclient.MaxRequestKeys)
	case o.MaxKeySize/8*o.MaxKeysPerRequest > maxAnswer:
		return o, fmt.Errorf("%w: %d keys of %d bits a request: over %d bytes together", kmclient.ErrConfig, o.MaxKeysPerRequest, o.MaxKeySize, maxAnswer)
	case o.MaxSAEIDs < 0 || o.MaxWaiting < 0 || o.Capacity < 0 || o.Latency < 0:
		return o, fmt.Errorf("%w: a negative limit", kmclient.ErrConfig)
	case o.Rate < 0 || math.IsInf(o.Rate, 0) || math.IsNaN(o.Rate):
		return o, fmt.Errorf("%w: rate %v keys a second", kmclient.ErrConfig, o.Rate)
	case o.ExhaustedStatus != http.StatusServiceUnavailable && o.ExhaustedStatus != http.StatusBadRequest:
		return o, fmt.Errorf("%w: status %d for no keys: must be 400 or 503", kmclient.ErrConfig, o.ExhaustedStatus)
	}
	return o, o.Quirks.check()
}

// Quirks make a simulator stray from the standard as KMEs in the field do, to
// test clients. The zero Quirks do nothing. (For a 400 when there are no keys,
// see [Options].ExhaustedStatus.)
type Quirks struct {
	POSTStatus       int           // 405 or 501 for every POST (ETSI only)
	GETStatus        int           // and for every GET that asks for keys
	StringIDs        bool          // key_IDs is a list of strings (ETSI only)
	UnknownKeyStatus int           // 401, 404 or 500 for an unknown key ID, instead of 400 (QMail: 404)
	StatusStatus     int           // an HTTP status of 400 or more for every status of a link
	ExhaustedMessage string        // the words when the stock is too small
	ZeroStock        bool          // the status says that no key is stored
	HideLimits       bool          // the status has no limits of number and size
	HTMLErrors       bool          // HTML pages instead of error bodies, with 401 as well
	NumericTarget    bool          // target_KME_ID is a number in the status
	IgnoreQuery      bool          // size and number are ignored with GET
	IgnoreSize       bool          // every key has KeySize bits
	IgnoreLimits     bool          // a number or size above or below the limits is served too
	RoundSize        int           // sizes are rounded up to a multiple of this many bits, instead of refused
	KeepKeys         bool          // dec_keys gives out a key as often as it is asked for
	RepeatKeys       bool          // enc_keys gives out keys again that were not fetched yet
	FewerKeys        bool          // one key fewer than asked for
	MostKeys         int           // the most keys in an answer, however many are asked for
	GiveRest         bool          // the keys that are left, if more are asked for
	ForgetEarlier    bool          // handing out keys drops the pair's earlier ones
	LoseAnswers      int           // how many answers with keys are lost, with their keys used up, before one arrives
	Slow             time.Duration // keys are used up, then the answer takes this long
}

func (q Quirks) check() error {
	switch q.UnknownKeyStatus {
	case 0, http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusInternalServerError:
	default:
		return fmt.Errorf("%w: status %d for an unknown key: must be 400, 401, 404 or 500", kmclient.ErrConfig, q.UnknownKeyStatus)
	}
	for _, status := range []int{q.POSTStatus, q.GETStatus} {
		if status != 0 && status != http.StatusMethodNotAllowed && status != http.StatusNotImplemented {
			return fmt.Errorf("%w: status %d for a method: must be 405 or 501", kmclient.ErrConfig, status)
		}
	}
	if q.StatusStatus != 0 && (q.StatusStatus < 400 || q.StatusStatus > 599) {
		return fmt.Errorf("%w: status %d for the status of a link: must be 400 to 599", kmclient.ErrConfig, q.StatusStatus)
	}
	if q.LoseAnswers < 0 || q.Slow < 0 || q.MostKeys < 0 || q.RoundSize < 0 || q.RoundSize%8 != 0 {
		return fmt.Errorf("%w: a quirk that is negative, or does not round to a multiple of 8", kmclient.ErrConfig)
	}
	return nil
}
