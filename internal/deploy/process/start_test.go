package process

import "testing"

// Of two starts in one directory, such as one that was cut off and its repetition, the first is the server.
func TestSecondStartFindsTheFirst(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "exec sleep 1000", nil)
	id, err := h.launch(within(t), ref.Directory, nil, "sh", "-c", "exec sleep 1000")
	if err != nil || id != ref.ID {
		t.Errorf("another start says %q, %v; the server is %q", id, err, ref.ID)
	}
}
