module github.com/qkdmail/qkdmail/testdata/vectors

go 1.23
