package sandbox

import (
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// BuiltinOffers is the market of a sandbox that was given none: about forty
// offers with the differences of the real clouds.
//
//   - Vast.ai: containers, reliability and CUDA version reported, some
//     interruptible, memory truncated (31 GB for a 32607 MiB card).
//   - TensorDock: VMs, the site's maximum as GPU count while one GPU is what a
//     rental gets, memory rounded up from the name, no CUDA version, one site
//     with an old driver, one without any, one without Docker.
//   - Blue Lobster: VMs, no reliability and no CUDA version reported, the driver
//     still being built for some minutes after boot.
func BuiltinOffers() []Offer {
	offers := vastOffers()
	offers = append(offers, tensorDockOffers()...)
	return append(offers, blueLobsterOffers()...)
}

func vastOffers() []Offer {
	const west, east, eu, asia = "California, US", "Virginia, US", "Sweden, SE", "Japan, JP"
	vast := func(id, gpu string, count int, price float64, place string, reliability, cuda float64) Offer {
		return Offer{
			ID: VastAI + "-" + id, GPUType: gpu, GPUCount: count, PricePerHour: price, Location: place,
			Reliability: reliability, CUDAVersion: cuda, MachineID: "vastai-machine-" + id[:5],
		}
	}
	spot := func(o Offer, bid float64) Offer {
		o.Interruptible, o.MinBid, o.Confidence = true, bid, 0.8
		return o
	}
	oldDriver := vast("2190417", "RTX 3090", 1, 0.19, east, 0.97, 12.4)
	oldDriver.Machine.DriverVersion = "550.127.05"
	withVLLM := vast("2604431", "RTX 4090", 1, 0.44, west, 0.998, 13.0)
	withVLLM.Machine.VLLM.Installed = "0.33.0"
	return []Offer{
		oldDriver,
		vast("2201873", "RTX 3090", 1, 0.22, eu, 0.992, 13.0),
		vast("2201874", "RTX 3090", 4, 0.84, eu, 0.992, 13.0),
		spot(vast("2317702", "RTX 4090", 1, 0.21, asia, 0.961, 12.8), 0.19),
		vast("2410055", "RTX 4090", 1, 0.39, east, 0.994, 12.9),
		withVLLM,
		vast("2410056", "RTX 4090", 2, 0.78, east, 0.994, 12.9),
		vast("2410057", "RTX 4090", 4, 1.55, east, 0.994, 12.9),
		vast("2588120", "RTX 5090", 1, 0.62, west, 0.996, 13.0),
		vast("2588121", "RTX 5090", 2, 1.25, west, 0.996, 13.0),
		spot(vast("2590310", "RTX 5090", 1, 0.35, asia, 0.955, 13.0), 0.31),
		vast("2611904", "RTX A6000", 1, 0.52, eu, 0.989, 12.9),
		vast("2620033", "L40S", 1, 0.86, east, 0.997, 13.0),
		vast("2620034", "L40S", 2, 1.71, east, 0.997, 13.0),
		vast("2700212", "A100 SXM4", 1, 1.12, west, 0.995, 12.9),
		vast("2700213", "A100 SXM4", 4, 4.46, west, 0.995, 12.9),
		vast("2744108", "H100 SXM5", 1, 2.19, east, 0.998, 13.0),
		vast("2744109", "H100 SXM5", 8, 17.4, east, 0.998, 13.0),
		vast("2750771", "H200", 1, 3.05, eu, 0.996, 13.0),
		vast("2101955", "Tesla V100", 1, 0.27, asia, 0.981, 12.4),
	}
}

func tensorDockOffers() []Offer {
	dock := func(site, v0, gpu string, sitemax, vram int, price float64, place string, tier int) Offer {
		return Offer{
			ID: TensorDock + "-" + site + "-" + v0, ProviderID: site, GPUType: gpu, GPUCount: sitemax, VRAMGB: vram,
			PricePerHour: price, Location: place, Reliability: float64(tier) / 3, Confidence: 0.5,
		}
	}
	const (
		chubbuck = "8a7c41d6-3f0e-4d5c-9b21-5f1f3f0a9c11"
		delaware = "3b52c9de-90a4-4c1b-8f0e-1d2f7a6b4e02"
		joplin   = "c1f0a2b7-6d38-4e93-a5a4-77e0b9d1f603"
		warsaw   = "e94d07aa-14b6-4b8e-8a3b-0f6c2d9e5a04"
	)
	oldDriver := dock(joplin, "geforcertx4090-pcie-24gb", "RTX 4090", 6, 24, 0.36, "Joplin, Missouri, United States", 2)
	oldDriver.Machine.DriverVersion = "550.163.01"
	noDriver := dock(warsaw, "geforcertx3090-pcie-24gb", "RTX 3090", 4, 24, 0.20, "Warsaw, Mazovia, Poland", 2)
	noDriver.Machine.Driver = machinefs.DriverMissing
	noDocker := dock(warsaw, "rtxa6000-pcie-48gb", "RTX A6000", 8, 48, 0.49, "Warsaw, Mazovia, Poland", 2)
	noDocker.Machine.NoDocker = true
	noToolkit := dock(joplin, "l4-pcie-24gb", "L4", 4, 24, 0.33, "Joplin, Missouri, United States", 2)
	noToolkit.Machine.NoGPURuntime = true
	return []Offer{
		oldDriver, noDriver, noDocker, noToolkit,
		dock(chubbuck, "geforcertx4090-pcie-24gb", "RTX 4090", 8, 24, 0.42, "Chubbuck, Idaho, United States", 3),
		dock(chubbuck, "geforcertx5090-pcie-32gb", "RTX 5090", 8, 32, 0.71, "Chubbuck, Idaho, United States", 3),
		dock(chubbuck, "rtx6000ada-pcie-48gb", "RTX 6000 Ada", 4, 48, 0.83, "Chubbuck, Idaho, United States", 3),
		dock(delaware, "a100-sxm4-80gb", "A100 SXM4", 8, 80, 1.63, "Wilmington, Delaware, United States", 3),
		dock(delaware, "h100-sxm5-80gb", "H100 SXM5", 8, 80, 2.25, "Wilmington, Delaware, United States", 3),
		dock(delaware, "l40s-pcie-48gb", "L40S", 2, 48, 0.95, "Wilmington, Delaware, United States", 3),
		dock(warsaw, "geforcertx4090-pcie-24gb", "RTX 4090", 2, 24, 0.47, "Warsaw, Mazovia, Poland", 2),
	}
}

func blueLobsterOffers() []Offer {
	lobster := func(kind, gpu string, count int, price float64, build time.Duration) Offer {
		return Offer{
			ID: BlueLobster + "-" + kind, GPUType: gpu, GPUCount: count, PricePerHour: price, Location: "Wilmington, US-East",
			Confidence: 0.9, Machine: MachineSpec{DriverBuild: Duration(build)},
		}
	}
	noDocker := lobster("v1_gpu_1x_rtxa4000-us-east-1", "RTX A4000", 1, 0.18, 7*time.Minute)
	noDocker.Machine.NoDocker = true
	return []Offer{
		noDocker,
		lobster("v1_gpu_1x_a5000-us-east-1", "Quadro RTX A5000", 1, 0.31, 9*time.Minute),
		lobster("v1_gpu_1x_a6000-us-east-1", "RTX A6000", 1, 0.56, 8*time.Minute),
		lobster("v1_gpu_2x_a6000-us-east-1", "RTX A6000", 2, 1.12, 12*time.Minute),
		lobster("v1_gpu_1x_l40s-us-east-1", "L40S", 1, 0.99, 10*time.Minute),
		lobster("v1_gpu_1x_h100-us-east-1", "H100 PCIE", 1, 2.35, 15*time.Minute),
		lobster("v1_gpu_4x_h100-us-east-1", "H100 PCIE", 4, 9.4, 18*time.Minute),
		lobster("v1_gpu_1x_pro6000-us-east-1", "RTX PRO 6000", 1, 1.69, 25*time.Minute),
		lobster("v1_gpu_8x_b200-us-east-1", "B200", 8, 38.0, 20*time.Minute),
	}
}
