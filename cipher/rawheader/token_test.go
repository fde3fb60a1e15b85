package rawheader

import "testing"

func TestCommentLen(t *testing.T) {
	for in, want := range map[string]int{
		"":             0,
		"a (b)":        0,
		"()":           2,
		"(a) b":        3,
		"(a(b(c))d)e)": 10,
		`(a\)b)`:       6,
		`(a\\)b)`:      5,
		`("a)b")`:      4, // a quote means nothing in a comment
		"(":            -1,
		"(a(b)":        -1,
		`(a\)`:         -1,
		`(\`:           -1,
	} {
		if got := CommentLen(in); got != want {
			t.Errorf("CommentLen(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestQuotedLen(t *testing.T) {
	for in, want := range map[string]int{
		"":          0,
		`a "b"`:     0,
		`""`:        2,
		`"a" b`:     3,
		`"a\"b"c`:   6,
		`"a\\"b"`:   5,
		`"a(b"c)"`:  5, // a parenthesis means nothing in a quoted string
		`"`:         -1,
		`"a`:        -1,
		`"a\"`:      -1,
		`"` + "\\":  -1,
		`"a\\\"b\"`: -1,
	} {
		if got := QuotedLen(in); got != want {
			t.Errorf("QuotedLen(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestUnquote(t *testing.T) {
	for in, want := range map[string]string{
		`""`:          "",
		`"a b"`:       "a b",
		`"a\"b\\"`:    `a"b\`,
		`"\a"`:        "a",
		`(a \(b\) c)`: "a (b) c",
		`"é\é"`:       "éé",
	} {
		if got := Unquote(in); got != want {
			t.Errorf("Unquote(%q) = %q, want %q", in, got, want)
		}
	}
}
