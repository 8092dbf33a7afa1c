package sandbox

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// Template is a Vast.ai template as the service answers it.
type Template struct {
	ID              int       `json:"id"`
	HashID          string    `json:"hash_id"`
	Name            string    `json:"name"`
	Image           string    `json:"image"`
	Tag             string    `json:"tag,omitempty"`
	OnStart         string    `json:"onstart,omitempty"`
	RunType         string    `json:"runtype,omitempty"`
	UseSSH          bool      `json:"use_ssh"`
	SSHDirect       bool      `json:"ssh_direct"`
	Recommended     bool      `json:"recommended"`
	RecommendedDisk int       `json:"recommended_disk_space,omitempty"` // GB
	CreatedAt       time.Time `json:"created_at"`
	Count           int       `json:"count_created,omitempty"`
	// MinVRAMGB and MinCUDA are what an offer needs to run it.
	MinVRAMGB int     `json:"-"`
	MinCUDA   float64 `json:"-"`
}

// BuiltinTemplates are a few templates for Options.Templates.
func BuiltinTemplates() []Template {
	cloud, _ := facts.FindCloud(VastAI)
	var listed []struct {
		Template

		MinVRAMGB int     `json:"min_vram_gb"`
		MinCUDA   float64 `json:"min_cuda"`
	}
	_ = facts.Decode(cloud.Templates, &listed) // TestTheBuiltinMarket shows that they can be read
	templates := make([]Template, 0, len(listed))
	for _, t := range listed {
		t.Template.MinVRAMGB, t.Template.MinCUDA = t.MinVRAMGB, t.MinCUDA
		templates = append(templates, t.Template)
	}
	return templates
}

func (t Template) fits(o listedOffer) bool {
	return o.VRAMGB*o.GPUCount >= t.MinVRAMGB && o.CUDAVersion >= t.MinCUDA
}

// furnish gives a container the template's image, in which nothing is missing.
func (t Template) furnish(f *machinefs.Facts) {
	if t.HashID == "" || !f.Container {
		return
	}
	f.Packages, f.Python = nil, ""
	if t.Image == "vllm/vllm-openai" {
		f.VLLM.Installed = strings.TrimPrefix(t.Tag, "v")
	}
}

// templatesMissing is the error that a service without templates answers, else nil.
func (s *service) templatesMissing() error {
	if len(s.templates) > 0 {
		return nil
	}
	return refuse(http.StatusInternalServerError,
		"template provider not available: provider not found: vastai (does not support templates)")
}

func (s *service) listTemplates(w http.ResponseWriter, r *http.Request) error {
	if err := s.templatesMissing(); err != nil {
		return err
	}
	q := r.URL.Query()
	has := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	list := []Template{}
	for _, t := range s.templates {
		if (q.Get("recommended") != "true" || t.Recommended) && (q.Get("use_ssh") != "true" || t.UseSSH) &&
			has(t.Name, q.Get("name")) && has(t.Image, q.Get("image")) {
			list = append(list, t)
		}
	}
	return writeJSON(w, http.StatusOK, map[string]any{"templates": list, "count": len(list)})
}

func (s *service) template(hash string) (Template, bool) {
	for _, t := range s.templates {
		if t.HashID == hash {
			return t, true
		}
	}
	return Template{}, false
}

func (s *service) getTemplate(w http.ResponseWriter, r *http.Request) error {
	if err := s.templatesMissing(); err != nil {
		return err
	}
	t, found := s.template(r.PathValue("id"))
	if !found {
		return refuse(http.StatusNotFound, "template not found")
	}
	return writeJSON(w, http.StatusOK, t)
}

func (s *service) compatibleTemplates(w http.ResponseWriter, r *http.Request) error {
	offer, found := s.inventory.Get(r.PathValue("id"))
	if !found {
		return refuse(http.StatusNotFound, "offer not found: %s", reflected(r.PathValue("id")))
	}
	list := []map[string]string{}
	body := map[string]any{"offer_id": offer.ID}
	if offer.Provider != VastAI {
		body["provider"], body["note"] = offer.Provider, "templates are only available for Vast.ai offers"
	} else {
		if err := s.templatesMissing(); err != nil {
			return err
		}
		body["gpu_type"], body["vram_gb"] = offer.GPUType, offer.VRAMGB
		for _, t := range s.templates {
			if t.fits(offer) {
				list = append(list, map[string]string{"hash_id": t.HashID, "name": t.Name, "image": t.Image})
			}
		}
	}
	body["compatible_templates"], body["count"] = list, len(list)
	return writeJSON(w, http.StatusOK, body)
}

// filterByTemplate limits a listing to offers that can run a template.
func (s *service) filterByTemplate(f *offerFilter, hash string) error {
	if len(s.templates) == 0 {
		return refuse(http.StatusBadRequest,
			"template filtering requires Vast.ai provider: provider not found: vastai (does not support templates)")
	}
	t, found := s.template(hash)
	if !found {
		return refuse(http.StatusNotFound, "template not found: %s", reflected(hash))
	}
	f.minCUDA, f.minVRAM = max(f.minCUDA, t.MinCUDA), max(f.minVRAM, t.MinVRAMGB)
	f.provider = cmp.Or(f.provider, VastAI)
	return nil
}
