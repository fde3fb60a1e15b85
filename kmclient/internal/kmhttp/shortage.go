package kmhttp

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
)

// A shortage is what the refusal of a key request says, in the key manager's words.
type shortage struct {
	short      bool // keys are lacking
	notThere   bool // keys are not available, for whatever reason
	aboutKeys  bool // it mentions keys
	limit      bool // it mentions a limit
	perRequest bool // that limit is per request
	outOfOrder bool // something other than keys is lacking or broken
	failed     bool // something could not be done, or is not allowed
	stranger   bool // the other side is not known
}

// readShortage judges a key manager's words.
func readShortage(words string) shortage {
	p := wordPatterns()
	text := p.plain(words)
	t := shortage{
		limit: p.limit.MatchString(text), perRequest: p.perRequest.MatchString(text),
		outOfOrder: p.outOfOrder.MatchString(text), failed: p.failed.MatchString(text), stranger: p.stranger.MatchString(text),
	}
	for sentence := range strings.SplitSeq(text, ".") {
		t.aboutKeys = t.aboutKeys || p.keys.MatchString(sentence)
		t.short = t.short || p.saysShort(sentence)
		t.notThere = t.notThere || p.notThere.MatchString(sentence)
	}
	return t
}

// hintsAtRetry reports whether a key manager says that the same request may succeed
// later.
func hintsAtRetry(header http.Header, words string) bool {
	p := wordPatterns()
	return header.Get("Retry-After") != "" || p.later.MatchString(p.plain(words))
}

// saysShort reports whether a plain sentence says that keys are lacking. The words
// for that must be next to those for keys: in "could not get keys, all retries
// exhausted" the retries are exhausted, not the keys.
func (p *patterns) saysShort(sentence string) bool {
	if p.inRequest.MatchString(sentence) {
		return false
	}
	for _, at := range p.lacking.FindAllStringIndex(sentence, -1) {
		if !p.asked.MatchString(sentence[at[1]:]) {
			return true
		}
	}
	if p.gone.MatchString(sentence) || p.counts.MatchString(sentence) {
		return true
	}
	if !p.keys.MatchString(sentence) && !p.amount.MatchString(sentence) {
		return false
	}
	if p.fewer.MatchString(sentence) && p.stock.MatchString(sentence) {
		return true
	}
	at := p.exceeds.FindStringIndex(sentence)
	if at == nil {
		return false
	}
	before, after := sentence[:at[0]], sentence[at[1]:]
	return p.stock.MatchString(after) && (!p.size.MatchString(before) || p.keys.MatchString(after))
}

// plain returns a text in lower case, with single spaces, periods between sentences,
// colons within them, and otherwise letters, digits and apostrophes only. It splits
// INSUFFICIENT_KEYS and NoKeysAvailable into words. It drops paths, since those of the
// API have "keys" in them, and names of keys that are not key material.
func (p *patterns) plain(s string) string {
	s = p.paths.ReplaceAllString(s, " ")
	s = p.entities.ReplaceAllString(s, " x ")
	s = p.humps.ReplaceAllString(p.acronyms.ReplaceAllString(s, "$1 $2"), "$1 $2")
	s = strings.NewReplacer("<", " less than ", ">", " exceeds ", "’", "'", ": ", " : ", "= ", " : ", ", ", " : ").Replace(strings.ToLower(s))
	s = p.ends.ReplaceAllString(s, " . ")
	s = p.others.ReplaceAllString(s, " ")
	s = strings.Join(strings.Fields(s), " ")
	s = p.noMore.ReplaceAllString(s, "at most")
	return p.otherKeys.ReplaceAllString(s, "it")
}

// patterns match words, all but the first few in the text that plain returns.
type patterns struct {
	paths, entities, acronyms, humps, ends, others, noMore, otherKeys *regexp.Regexp // for plain

	keys, amount                                      *regexp.Regexp
	inRequest, lacking, asked, gone, notThere, counts *regexp.Regexp
	exceeds, fewer, stock, size                       *regexp.Regexp
	limit, perRequest                                 *regexp.Regexp
	outOfOrder, failed, stranger, later               *regexp.Regexp
}

// wordPatterns compiles the patterns when a key manager first refuses a request.
var wordPatterns = sync.OnceValue(func() *patterns {
	words := func(parts ...string) *regexp.Regexp {
		return regexp.MustCompile(`\b(?:` + strings.Join(parts, "|") + `)\b`)
	}
	const (
		// What key managers call keys.
		keys = `(?:keys?(?: (?:pools?|stores?|materials?|buffers?|banks?|reservoirs?|stocks?|storage|supply|reserves?|caches?|queues?|counts?|amounts?|bits|bytes|streams?|pairs?))?` +
			`|(?:quantum|qkd|keying|secret|pad) (?:materials?|bits|bytes|pools?|buffers?|stocks?))`
		// Words between keys and what is said about them: "keys (for SAE_B are
		// currently) exhausted".
		between = `(?: :)?(?: (?:is|are|was|were|has|have|had|been|being|now|currently|temporarily|completely|fully|almost|nearly|all|already|just|the|this|that|moment|time|present|` +
			`available|remaining|stored|fresh|and|\w|(?:for|of|to|with|between|on|in|at)(?: (?:the|this|that|your|its|all|sae|kme|peer|qkd))* \w+))*`
		// Words before keys: "no (more fresh) keys".
		kinds = `(?:(?:all|available|fresh|free|new|unused|remaining|more|stored|valid|quantum|qkd|secret|encryption|the|any|further|additional|generated|of|amount|number|enough|` +
			`sufficient|ready|shared|symmetric|raw|final|left) ){0,4}`
		have = `(?:available|remaining|left|in stock|stored|have|has|exist|ready|present)`
		want = `(?:request\w*|asked for|wanted|need\w*|requir\w*)`
		few  = `(?: [\w:]+){0,4}? ` // a few words
	)
	return &patterns{
		paths:    regexp.MustCompile(`\S*://\S*|\S*/api/\S*|(?:^|[\s"'(])/\S+`),
		entities: regexp.MustCompile(`"[^"]{1,64}"|'[^' ]{1,64}'|\b(?:SAE|KME)[_-][A-Za-z0-9_-]+`),
		acronyms: regexp.MustCompile(`([A-Z]{2,})([A-Z][a-z]{2,})`),
		humps:    regexp.MustCompile(`([a-z0-9])([A-Z])`),
		ends:     regexp.MustCompile(`[.;!?]+(?:\s|$)|\n+`),
		others:   regexp.MustCompile(`[^\pL\pN'.: ]+|\.\b|\b\.|\b:\b`),
		noMore:   words(`no more than`, `not more than`, `no greater than`),
		otherKeys: words(
			`(?:api|access|licen[cs]e|private|public|tls|ssl|ssh|session|primary|foreign|signing|wrapping|registry|auth\w*|enc|dec|json|missing|unknown|invalid|malformed) keys?(?: ids?)?`,
			`keys? (?:sizes?|lengths?|ids?|identifiers?|names?|formats?|types?|manage\w*|servers?|services?|exchange|vaults?|owners?|agreement|usage|requests?|derivation|`+
				`generat(?:ion|ors?)|establishment|distribution|entity|entities|parameters?|rates?|quotas?|values?|containers?|files?|databases?)`),

		keys:      words(keys),
		amount:    words(`amount`, `number`, `count`, `quantity`),
		lacking:   words(`(?:insufficient|(?:not|\w+n't)(?: \w+){0,2}? (?:enough|sufficient)|too few|no|no more|zero|0|out of|lack of|lacks|lacking|shortage of|short of|none of|(?:do|does)(?:n't| not) have|has no|have no) ` + kinds + keys),
		inRequest: words(`(?:lists?|arrays?|fields?|members?|parameters?) of keys?`, `in (?:the |your |this )?(?:request|body|query|json|payload)`),
		// After "no keys": the caller gave none, or may have none.
		asked: regexp.MustCompile(`^ (?:\w+ ){0,2}?(?:given|specified|supplied|provided|requested|sent|passed|selected|named|request|body|query|json|payload|message|allowed|permitted|` +
			`authori[sz]ed|granted|configured|defined|registered|parameter|field|member|object|array|list|may|shall|must|should|per)\b`),
		gone: words(keys+between+` (?:exhaust\w*|deplet\w*|drained|empty|emptied|used up|insufficient|not sufficient|not enough|run(?:ning)? out|ran out|running low|(?:run |ran )?dry|too low|too few|too small|out of stock|`+
			`(?:do|does)(?:n't| not) suffice|short|shortage|gone|underflow|zero|none)`,
			`(?:exhaust\w*|deplet\w*|drained|emptied|empty|used up) `+kinds+keys),
		notThere: words(`(?:keys?|(?:key|quantum|qkd|keying) materials?|(?:quantum|qkd|secret) keys?)` + between + ` (?:unavailable|not available|no longer available|missing)`),
		counts: words(
			`(?:available|stored|remaining|free|ready|generated) `+keys+`(?: (?:is|are|was|count|left|equals|:))* 0`,
			`keys?(?: count)? (?:available|stored|remaining|left|in stock)(?: (?:is|are|was|count|:))* 0`,
			`key counts?(?: (?:is|was|equals|:))* 0`,
			want+few+`\d+`+few+have, have+few+`\d+`+few+want+few+`\d+`, `\d+`+few+have+few+`\d+`+few+want,
			`(?:only|just|but) \d+ (?:\w+ ){0,4}?`+have, have+few+`\d+`+few+`\d+`+few+want),
		exceeds: words(`exceed\w*`, `surpass\w*`, `(?:greater|more|larger|higher|bigger)(?: \w+){0,3}? than`, `is (?:above|over|beyond)`),
		fewer:   words(`(?:fewer|less|lower|smaller)(?: \w+){0,4}? than(?: \w+){0,3}? ` + want),
		stock:   words(`availab\w*`, `generated`, `stored`, `remain\w*`, `existing`, `stocks?`, `buffers?`, `buffered`, `pools?`, `in store`, `left`, `reserves?`, `inventory`, `supply`, `ready`, `key (?:counts?|materials?|stores?)`),
		size:    words(`sizes?`, `lengths?`, `long`, `bits`, `it`),

		limit:      words(`max\w*`, `limit\w*`, `at most`, `up to`, `(?:allowed|permitted) (?:number|amount|sizes?|range)`, `(?:number|amount|size) (?:allowed|permitted)`, `quotas?`, `too many`, `too large`, `too big`, `out of range`, `must not exceed`, `(?:shall|must|should|has to) (?:be|have) (?:from )?(?:\d+ (?:to|and|through) \d+|between|less|lower|smaller|under|below)`, `between \d+ and \d+`, `threshold`),
		perRequest: words(`per (?:request|call|query|message|batch)`, `(?:in (?:a|one)|each|single|one) (?:single )?(?:request|call|query)`, `at once`, `at a time`),
		outOfOrder: words(`databases?`, `db`, `sql\w*`, `connections?`, `sockets?`, `memory`, `ram`, `heap`, `disks?`, `file ?systems?`, `file (?:descriptors?|handles?)`, `threads?`, `workers?`, `cpus?`,
			`time ?outs?`, `timed out`, `deadline`, `internal (?:server )?error`, `traceback`, `certificates?`, `licen[cs]es?`, `subscription`, `tokens?`, `credentials?`, `privileges?`, `permissions?`, `rights`,
			`maintenance`, `hsm`, `hardware`, `redis`, `etcd`, `kafka`, `upstream`, `backend`, `gateway`, `proxy`, `unreachable`, `out of (?:order|service)`, `overload\w*`, `entropy`, `respon(?:se|d|ding)`, `sessions?`),
		failed: words(`fail\w*`, `errors?`, `could not`, `couldn't`, `cannot`, `can't`, `can not`, `unable`, `down`, `offline`, `broken?`, `crash\w*`, `fault\w*`, `denied`, `forbidden`, `invalid`, `malformed`,
			`unknown`, `unsupported`, `not supported`, `start(?:ing|s|ed)?`, `initiali[sz]\w*`, `re(?:boot|start)\w*`, `shut\w*`, `synchroni[sz]\w*`, `not (?:allowed|permitted|authori[sz]ed|known|found|registered|configured)`,
			`too many requests`, `rate limit\w*`),
		stranger: words(`unknown (?:(?:slave|master|remote|peer) )?(?:sae|kme|peer|node|client)`,
			`(?:sae|kme|peer|node|slave|master|client|x)(?: \w)? (?:is |was |are )?(?:unknown|not (?:known|found|registered|configured|connected|paired|authori[sz]ed))`),
		later: words(`try again`, `try later`, `retry`, `later`, `temporar\w*`, `at (?:this|the) (?:time|moment)`, `in a (?:few|moment|while|minute|second)`, `wait`, `not yet`, `soon`, `currently`, `for now`, `being (?:generated|made|produced)`),
	}
})
