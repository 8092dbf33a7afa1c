package machinefs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	maxCommandLine = 64 << 10 // bytes of one command line that are kept
	maxCommandLog  = 4 << 20  // bytes of the log after which nothing is added
)

// Record adds a command line to the machine's record. A line longer than 64 KiB is cut,
// and a record of 4 MiB takes no more. Any process of the machine may call it.
func (r Root) Record(commandLine string) error {
	line, err := json.Marshal(commandLine[:min(len(commandLine), maxCommandLine)])
	if err != nil {
		return err
	}
	file, err := os.OpenFile(r.commandLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("recording a command line: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() >= maxCommandLog {
		return nil
	}
	if _, err := file.Write(append(line, '\n')); err != nil { // one write: appends don't mix
		return fmt.Errorf("recording a command line: %w", err)
	}
	return nil
}

// Commands returns the recorded command lines, oldest first.
func (r Root) Commands() ([]string, error) {
	file, err := os.Open(r.commandLog())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of command lines: %w", err)
	}
	defer file.Close()
	var commands []string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 8*maxCommandLine) // JSON may write one byte as six
	for lines.Scan() {
		var command string
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			return commands, fmt.Errorf("reading the record of command lines: %w", err)
		}
		commands = append(commands, command)
	}
	return commands, lines.Err()
}

func (r Root) commandLog() string { return filepath.Join(string(r), "commands.jsonl") }
