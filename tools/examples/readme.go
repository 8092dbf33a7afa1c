package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var hcl = regexp.MustCompile("(?s)```hcl\n(.*?)```")

// readme makes one more example of what README shows of a configuration.
func readme(root string) error {
	text, err := os.ReadFile("README.md")
	if err != nil {
		return err
	}
	var config strings.Builder
	for _, block := range hcl.FindAllSubmatch(text, -1) {
		config.Write(block[1])
	}
	folder := filepath.Join(root, "readme")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "main.tf"), []byte(config.String()), 0o600)
}
