package config

import (
	"reflect"
	"strings"
)

// tagOf returns the key of a field and what its tag adds.
func tagOf(f reflect.StructField) (key, unit string) {
	key, unit, _ = strings.Cut(f.Tag.Get("toml"), ",")
	return key, unit
}

// fieldOf returns the field of a table with this key.
func fieldOf(table reflect.Value, key string) (field reflect.Value, unit string, ok bool) {
	for i := range table.NumField() {
		if name, unit := tagOf(table.Type().Field(i)); name == key && key != "" {
			return table.Field(i), unit, true
		}
	}
	return reflect.Value{}, "", false
}

// keysOf returns the keys of a table, in the order in which they are
// documented.
func keysOf(table reflect.Type) []string {
	var keys []string
	for i := range table.NumField() {
		if name, _ := tagOf(table.Field(i)); name != "" {
			keys = append(keys, name)
		}
	}
	return keys
}

// nearKeys names the known keys that may be meant, or all known keys.
func nearKeys(key string, known []string) string {
	var near []string
	for _, k := range known {
		if len(key) <= 64 && editDistance(strings.ToLower(key), k) <= max(1, len(k)/3) {
			near = append(near, k)
		}
	}
	if near == nil {
		return "the known ones are " + strings.Join(known, ", ")
	}
	return "did you mean " + strings.Join(near, " or ") + "?"
}

// editDistance counts the bytes to insert, remove or change between a and b
// (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
