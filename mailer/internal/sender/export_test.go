package sender

// What tests of this package need besides Read.
const (
	MaxSender  = maxSender
	MaxDomains = maxDomains
	MaxWork    = maxWork
	MaxNested  = maxNested
)

// ReadValues reads the values of From fields.
func ReadValues(values ...string) Sender { return readValues(values...) }

// Work returns how many characters were looked at.
func (s Sender) Work() int { return s.work }

// Decodings returns the readings of a text with encoded words.
func Decodings(text string) []string { list, _ := decodings(text); return list }
