package kmcmd

import (
	"encoding/json"
	"testing"
)

func TestParseExtension(t *testing.T) {
	for arg, want := range map[string][2]string{ // what is sent to the QMail REST API, and to a KME
		"pqc":                  {`"pqc"`, `{"pqc":true}`},
		"route=direct":         {`{"route":"direct"}`, `{"route":"direct"}`},
		"n=3":                  {`{"n":3}`, `{"n":3}`},
		`n="3"`:                {`{"n":"3"}`, `{"n":"3"}`},
		"on=true":              {`{"on":true}`, `{"on":true}`},
		"empty=":               {`{"empty":""}`, `{"empty":""}`},
		"a=b=c":                {`{"a":"b=c"}`, `{"a":"b=c"}`},
		`o={"hops":[1,"two"]}`: {`{"o":{"hops":[1,"two"]}}`, `{"o":{"hops":[1,"two"]}}`},
		"two words=x y":        {`{"two words":"x y"}`, `{"two words":"x y"}`},
	} {
		for i, object := range []bool{false, true} {
			got, err := parseExtension(arg, object)
			text, merr := json.Marshal(got)
			if err != nil || merr != nil || string(text) != want[i] {
				t.Errorf("--extension %s, as an object: %t: %s, %v, %v, want %s", arg, object, text, err, merr, want[i])
			}
		}
	}
	for _, arg := range []string{"", "=", "=x"} {
		if got, err := parseExtension(arg, false); err == nil {
			t.Errorf("--extension %q is accepted: %v", arg, got)
		}
	}
}
