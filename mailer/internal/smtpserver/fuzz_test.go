package smtpserver_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
)

// FuzzClient sends anything to an encrypting and a decrypting relay: they do not
// panic, and no message comes to the next hop that was not sent with MAIL, RCPT
// and DATA, or without its end.
func FuzzClient(f *testing.F) {
	for _, seed := range []string{
		"EHLO x\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@clear.example>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n",
		"EHLO x\r\nSTARTTLS\r\nXFORWARD ADDR=1\r\nBDAT 3 LAST\r\nabc",
		"MAIL FROM:<a@a.example>\r\nMAIL FROM:<b@b.example>\r\nRSET\r\nNOOP\r\nVRFY x\r\nAUTH PLAIN =\r\n",
		"EHLO x\nMAIL FROM:<\"a@b> \"@a.example> SIZE=1 BODY=8BITMIME RET=HDRS ENVID=+0A\nRCPT TO:<b@b.example> NOTIFY=NEVER\nDATA\n.\n\r\n.\r\n",
		"\x00\r\r\n\xff\xfe \r\n" + strings.Repeat("x", 3000) + "\r\n",
	} {
		f.Add([]byte(seed), uint8(5))
	}
	hop := mailtest.StartHop(f)
	encrypt := mailtest.StartRelay(f, mailer.DirectionEncrypt, hop.Addr())
	decrypt := mailtest.StartRelay(f, mailer.DirectionDecrypt, hop.Addr())
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		for _, r := range []*mailtest.Relay{encrypt, decrypt} {
			conn, err := net.Dial("tcp", r.Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(mailtest.Patience))
			go func() {
				for rest := in; len(rest) > 0; {
					n := min(len(rest), 1+int(size)*16)
					if _, err := conn.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			if _, err := io.Copy(io.Discard, conn); err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Fatal("the session does not end")
				}
			}
			_ = conn.Close()
			if strings.Contains(r.Log.String(), "panic") {
				t.Fatal(r.Log)
			}
		}
		upper := strings.ToUpper(string(in))
		for _, m := range hop.Got() {
			if strings.ContainsAny(strings.ReplaceAll(m.Raw, "\r\n", ""), "\r\n\x00") {
				t.Fatalf("line ends at the next hop: %q", m.Raw)
			}
			if !strings.Contains(upper, "MAIL") || !strings.Contains(upper, "RCPT") || !strings.Contains(upper, "DATA") || !strings.Contains(upper, ".\r\n") {
				t.Fatalf("%q made a message: %q", in, m.Raw)
			}
		}
		hop.Forget()
	})
}
