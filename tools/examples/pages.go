package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	hcl       = regexp.MustCompile("(?s)```hcl\n(.*?)```")
	terraform = regexp.MustCompile("(?s)```terraform\n(.*?)```")
)

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
	return write(filepath.Join(root, "readme"), config.String())
}

// guides makes an example of each configuration that a guide shows and that is no file of examples/.
func guides(root, templates string) error {
	files, err := filepath.Glob(filepath.Join(templates, "*.tmpl"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no guide is in %s: %w", templates, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for i, block := range terraform.FindAllSubmatch(text, -1) {
			name := strings.TrimSuffix(filepath.Base(file), ".md.tmpl")
			if err := write(filepath.Join(root, fmt.Sprintf("guide-%s-%d", name, i+1)), string(block[1])); err != nil {
				return err
			}
		}
	}
	return nil
}

func write(folder, config string) error {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "main.tf"), []byte(config), 0o600)
}
