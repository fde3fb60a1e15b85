package rawheader

import "testing"

func TestComment(t *testing.T) {
	type result struct {
		text string
		n    int
	}
	for in, want := range map[string]result{
		"":             {"", 0},
		"a (b)":        {"", 0},
		"()":           {"", 2},
		"(a) b":        {"a", 3},
		"(a(b(c))d)e)": {"a(b(c))d", 10},
		`(a\)b)`:       {"a)b", 6},
		`(a\\)b)`:      {`a\`, 5},
		`(a \(b\) c)`:  {"a (b) c", 11},
		`("a)b")`:      {`"a`, 4}, // a quote means nothing in a comment
		"(":            {"", -1},
		"(a(b)":        {"", -1},
		`(a\)`:         {"", -1},
		`(\`:           {"", -1},
	} {
		if text, n := Comment(in); text != want.text || n != want.n {
			t.Errorf("Comment(%q) = %q, %d, want %q, %d", in, text, n, want.text, want.n)
		}
	}
}

func TestQuotedString(t *testing.T) {
	type result struct {
		text string
		n    int
	}
	for in, want := range map[string]result{
		"":          {"", 0},
		`a "b"`:     {"", 0},
		`""`:        {"", 2},
		`"a" b`:     {"a", 3},
		`"a b"`:     {"a b", 5},
		`"a\"b"c`:   {`a"b`, 6},
		`"a\\"b"`:   {`a\`, 5},
		`"a\"b\\"`:  {`a"b\`, 8},
		`"\a"`:      {"a", 4},
		`"é\é"`:     {"éé", 7},
		`"a(b"c)"`:  {"a(b", 5}, // a parenthesis means nothing in a quoted string
		`"`:         {"", -1},
		`"a`:        {"", -1},
		`"a\"`:      {"", -1},
		`"` + "\\":  {"", -1},
		`"a\\\"b\"`: {"", -1},
	} {
		if text, n := QuotedString(in); text != want.text || n != want.n {
			t.Errorf("QuotedString(%q) = %q, %d, want %q, %d", in, text, n, want.text, want.n)
		}
	}
}
