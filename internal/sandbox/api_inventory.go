package sandbox

import (
	"net/http"
	"net/url"
	"strconv"
)

func (s *service) listInventory(w http.ResponseWriter, r *http.Request, _ map[string]string) {
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
		s.filterByTemplate(&f, hash, &q)
	}
	limit, offset := q.positive("limit"), q.count("offset")
	if q.err != nil {
		writeError(w, q.err)
		return
	}
	offers, known := s.inventory.List(f)
	if !known {
		writeError(w, refuse(http.StatusBadRequest, "provider not found: %s", f.provider))
		return
	}
	total := len(offers)
	offers = offers[min(offset, total):]
	if limit > 0 {
		offers = offers[:min(limit, len(offers))]
	}
	writeJSON(w, http.StatusOK, map[string]any{"offers": offers, "count": len(offers), "total": total})
}

func (s *service) getOffer(w http.ResponseWriter, _ *http.Request, params map[string]string) {
	offer, found := s.inventory.Get(params["id"])
	if !found {
		writeError(w, refuse(http.StatusNotFound, "offer not found: %s", params["id"]))
		return
	}
	writeJSON(w, http.StatusOK, offer)
}

// queryReader reads a listing's query. The first thing that is wrong is kept.
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

func (q *queryReader) integer(name string) (int, bool) {
	text := q.text(name)
	if text == "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		q.refuse(name, "a valid integer", text)
		return 0, false
	}
	return n, true
}

func (q *queryReader) count(name string) int {
	n, _ := q.integer(name)
	if n < 0 {
		q.refuse(name, "non-negative", n)
		return 0
	}
	return n
}

func (q *queryReader) positive(name string) int {
	n, given := q.integer(name)
	if given && n <= 0 {
		q.refuse(name, "positive", n)
		return 0
	}
	return n
}

func (q *queryReader) number(name string) float64 {
	text := q.text(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		q.refuse(name, "a valid number", text)
	}
	return n
}

func (q *queryReader) amount(name string) float64 {
	n := q.number(name)
	if n < 0 {
		q.refuse(name, "non-negative", n)
	}
	return n
}

func (q *queryReader) share(name string) float64 {
	n := q.number(name)
	if n < 0 || n > 1 {
		q.refuse(name, "between 0 and 1", n)
	}
	return n
}
