package sandbox

import (
	"net/http"
	"net/url"
	"strconv"
)

func (s *service) listInventory(w http.ResponseWriter, r *http.Request) error {
	q := queryReader{values: r.URL.Query()}
	f := offerFilter{
		provider: q.text("provider"), gpuType: q.text("gpu_type"), location: q.text("location"),
		minVRAM: q.count("min_vram"), maxPrice: q.amount("max_price"), minGPUs: q.count("gpu_count"),
	}
	if n := q.count("min_gpu_count"); q.text("min_gpu_count") != "" {
		f.minGPUs = n
	}
	f.minReliability, f.minConfidence = q.share("min_reliability"), q.share("min_availability_confidence")
	f.minCUDA = q.amount("min_cuda")
	if hash := q.text("template_hash_id"); hash != "" && q.err == nil {
		q.err = s.filterByTemplate(&f, hash)
	}
	limit, offset := q.positive("limit"), q.count("offset")
	if q.err != nil {
		return q.err
	}
	offers, known := s.inventory.List(f)
	if !known {
		return refuse(http.StatusBadRequest, "provider not found: %s", f.provider)
	}
	total := len(offers)
	offers = offers[min(offset, total):]
	if limit > 0 {
		offers = offers[:min(limit, len(offers))]
	}
	return writeJSON(w, http.StatusOK, map[string]any{"offers": offers, "count": len(offers), "total": total})
}

func (s *service) getOffer(w http.ResponseWriter, r *http.Request) error {
	offer, found := s.inventory.Get(r.PathValue("id"))
	if !found {
		return refuse(http.StatusNotFound, "offer not found: %s", r.PathValue("id"))
	}
	return writeJSON(w, http.StatusOK, offer)
}

// queryReader reads a listing's query and keeps the first error.
type queryReader struct {
	values url.Values
	err    error
}

func (q *queryReader) text(name string) string { return q.values.Get(name) }

func (q *queryReader) refuse(name, must string, got any) {
	if q.err == nil {
		format := "invalid %s: must be %s, got %v"
		if _, isText := got.(string); isText {
			format = "invalid %s: must be %s, got %q"
		}
		q.err = refuse(http.StatusBadRequest, format, name, must, got)
	}
}

// readQuery reads a number, 0 if it is missing; ok reports whether its value is allowed.
func readQuery[N int | float64](q *queryReader, name, kind string, parse func(string) (N, error), ok func(N) bool, must string) N {
	text := q.text(name)
	if text == "" {
		return 0
	}
	n, err := parse(text)
	switch {
	case err != nil:
		q.refuse(name, kind, text)
	case !ok(n):
		q.refuse(name, must, n)
	}
	return n
}

func parseFloat(text string) (float64, error) { return strconv.ParseFloat(text, 64) }

func (q *queryReader) count(name string) int {
	return readQuery(q, name, "a valid integer", strconv.Atoi, func(n int) bool { return n >= 0 }, "non-negative")
}

func (q *queryReader) positive(name string) int {
	return readQuery(q, name, "a valid integer", strconv.Atoi, func(n int) bool { return n > 0 }, "positive")
}

func (q *queryReader) amount(name string) float64 {
	return readQuery(q, name, "a valid number", parseFloat, func(n float64) bool { return n >= 0 }, "non-negative")
}

func (q *queryReader) share(name string) float64 {
	return readQuery(q, name, "a valid number", parseFloat, func(n float64) bool { return n >= 0 && n <= 1 }, "between 0 and 1")
}
