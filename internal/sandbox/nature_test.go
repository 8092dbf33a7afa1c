package sandbox

import (
	"slices"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// The machines are those that the clouds' real ones showed themselves to be, or friendly.
func TestMachinesFollowTheClouds(t *testing.T) {
	t.Parallel()
	vllm := Template{HashID: "4e17", Image: "vllm/vllm-openai", Tag: "v0.33.0"}
	for _, test := range []struct {
		offer          Offer
		variant        Machines
		template       Template
		driver, python string
		compiler       bool
		docker         bool
		installed      string
	}{
		{offer: Offer{ID: "vastai-1", CUDAVersion: 12.4}, driver: "550.127.05", python: "3.10"},
		{offer: Offer{ID: "vastai-1", CUDAVersion: 13}, driver: "580.95.05", python: "3.10"},
		{
			offer:  Offer{ID: "vastai-1", CUDAVersion: 12.9, Machine: MachineSpec{DriverVersion: "570.124.04"}},
			driver: "570.124.04", python: "3.10",
		},
		{offer: Offer{ID: "vastai-1", CUDAVersion: 13}, template: vllm, driver: "580.95.05", compiler: true, installed: "0.33.0"},
		{offer: Offer{ID: "vastai-1", CUDAVersion: 12.4}, variant: Friendly, driver: "580.95.05", compiler: true},
		{offer: Offer{ID: "bluelobster-1"}, driver: "560.35.05", python: "3.10", compiler: true},
		{offer: Offer{ID: "bluelobster-1", Machine: MachineSpec{Docker: true}}, driver: "560.35.05", python: "3.10", compiler: true, docker: true},
		{offer: Offer{ID: "bluelobster-1"}, variant: Friendly, driver: "580.95.05", compiler: true, docker: true},
		{offer: Offer{ID: "bluelobster-1", Machine: MachineSpec{NoDocker: true}}, variant: Friendly, driver: "580.95.05", compiler: true},
		{offer: Offer{ID: "tensordock-1"}, driver: "580.126.09", python: "3.12", compiler: true},
	} {
		test.offer.GPUType, test.offer.PricePerHour = "RTX A6000", 1
		offers, err := completeOffers([]Offer{test.offer}, test.variant)
		if err != nil {
			t.Fatal(err)
		}
		f := offers[0].facts(60, createRequest{template: test.template})
		compiler := f.Packages == nil || slices.Contains(f.Packages, "gcc")
		if f.DriverVersion != test.driver || f.Python != test.python || compiler != test.compiler || f.Docker != test.docker ||
			f.VLLM.Installed != test.installed {
			t.Errorf("%s %s: %+v", test.offer.ID, test.variant, f)
		}
	}
}

// While a VM's driver is built after boot, dpkg is locked and nvidia-smi sees two versions.
func TestDriverIsBuiltAfterBoot(t *testing.T) {
	t.Parallel()
	offers, err := completeOffers([]Offer{{ID: "bluelobster-1", GPUType: "RTX A6000", PricePerHour: 1}}, AsSeen)
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{clock: newClock(60)}
	f := c.natureOf(offers[0], createRequest{}, nil)
	if f.Driver != machinefs.DriverBuilding || !f.DriverMismatch || f.DpkgLockedUntil.IsZero() || !f.DpkgLockedUntil.Equal(f.DriverReadyAt) {
		t.Errorf("%+v", f)
	}
}
