"""ComGEN (Tong et al.): anomalies made from good images by adding, dropping, moving and changing components."""
