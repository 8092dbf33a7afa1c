package engine

import (
	"net/http"
	"net/url"
	"strings"

	volumetypes "github.com/moby/moby/api/types/volume"
)

func (d *docker) createVolume(w http.ResponseWriter, req *http.Request) error {
	var body volumetypes.CreateRequest
	if err := readJSON(req, &body); err != nil {
		return err
	}
	if body.Name == "" {
		body.Name = newID()
	}
	if body.Labels == nil {
		body.Labels = map[string]string{}
	}
	body.Labels[machineLabel] = string(d.engine.cfg.Root)
	body.Name = d.prefix + body.Name
	status, data, err := d.call(req.Context(), http.MethodPost, "/volumes/create", body)
	if err != nil {
		return err
	}
	if status >= http.StatusBadRequest {
		return d.refused(status, data)
	}
	made := object{}
	if _, err := d.get(req.Context(), "/volumes/"+url.PathEscape(body.Name), &made); err != nil {
		return err
	}
	return writeJSON(w, status, d.asOwn(made))
}

// asOwn is a volume under the machine's name for it.
func (d *docker) asOwn(volume object) object {
	if name, ok := volume["Name"].(string); ok {
		volume["Name"], volume["Mountpoint"] = d.plain(name), volumePath(d.plain(name))
	}
	if labels, ok := volume["Labels"].(object); ok {
		delete(labels, machineLabel)
	}
	return volume
}

func (d *docker) listVolumes(w http.ResponseWriter, req *http.Request) error {
	wanted, err := readFilters(req)
	if err != nil {
		return err
	}
	var found struct{ Volumes []object }
	if _, err := d.get(req.Context(), "/volumes?filters="+url.QueryEscape(d.own(wanted, "name")), &found); err != nil {
		return err
	}
	volumes := []object{}
	for _, volume := range found.Volumes {
		name, _ := volume["Name"].(string)
		if wanted.any("name", func(v string) bool { return matchName(v, d.plain(name)) }) {
			volumes = append(volumes, d.asOwn(volume))
		}
	}
	return writeJSON(w, http.StatusOK, object{"Volumes": volumes, "Warnings": []string{}})
}

// volume reads or removes a volume.
func (d *docker) volume(w http.ResponseWriter, req *http.Request) error {
	path := "/volumes/" + url.PathEscape(d.prefix+strings.TrimPrefix(req.PathValue("name"), d.prefix))
	if req.Method == http.MethodDelete {
		d.pass(w, req, path)
		return nil
	}
	volume := object{}
	if _, err := d.get(req.Context(), path, &volume); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, d.asOwn(volume))
}
