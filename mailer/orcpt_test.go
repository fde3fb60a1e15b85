package mailer

import "testing"

func TestReadableORCPT(t *testing.T) {
	for line, want := range map[string]string{
		// As Postfix 3.7 sends them.
		"RCPT TO:<bób@b.example> ORCPT=rfc822;b+C3+B3b@b.example":                `RCPT TO:<bób@b.example> ORCPT=utf-8;b\x{F3}b@b.example`,
		"rcpt to:<x@b> notify=NEVER  orcpt=RFC822;+E6+97+A5+2B@b.example RRVS=x": `rcpt to:<x@b> notify=NEVER  ORCPT=utf-8;\x{65E5}\x{2B}@b.example RRVS=x`,
		"RCPT TO:<x@b> ORCPT=rfc822;+F0+9F+98+80@b":                              `RCPT TO:<x@b> ORCPT=utf-8;\x{1F600}@b`,
		// And what stays.
		"RCPT TO:<bob+tag@b> ORCPT=rfc822;bob+2Btag@b": "",
		"RCPT TO:<bob@b>":  "",
		"RCPT TO:<bob@b> ": "",
		"RCPT TO:<x@b> ORCPT=utf-8;b\\x{F3}b@b.example": "",
		"RCPT TO:<x@b> ORCPT=rfc822;+C3@b":              "", // no UTF-8
		"RCPT TO:<x@b> ORCPT=rfc822;+C":                 "",
		"RCPT TO:<x@b> ORCPT=rfc822;+ZZ":                "",
		"RCPT TO:<x@b> ORCPT=":                          "",
		`RCPT TO:<"a> ORCPT=rfc822;+C3+B3"@b>`:          "",
		"RCPT ORCPT=rfc822;b+C3+B3b":                    "",
		"MAIL FROM:<x> ORCPT=rfc822;b+C3+B3b":           "",
		"":                                              "",
	} {
		if want == "" {
			want = line
		}
		for _, end := range []string{"\r\n", "\n", " \r\n"} {
			if got := string(readableORCPT([]byte(line + end))); got != want+end {
				t.Errorf("%q: got %q, want %q", line+end, got, want+end)
			}
		}
	}
}
